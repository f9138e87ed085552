"""Made-up training runs with known outcomes, for tests of the reports: seeded numbers, nothing was trained."""

from typing import Any

import numpy as np

from mann_bench.learn.record import CurvePoint, Evaluation, LearningCase, LearningResult

POINTS = 60


def make_run(
    model: str = "sam",
    seed: int = 0,
    *,
    half: float = 4000.0,
    ms: float = 1.0,
    status: Any = None,
    reason: str | None = None,
    evaluations: list[Evaluation] | None = None,
    validation: float | None = None,
    level_means: str = "pairs",
    answer: Any = "bits",
    **changes: Any,
) -> LearningResult:
    """Make up a training run.

    Args:
        half: sequences in which the loss halves (varied by up to 15% between seeds), and with a curriculum the level doubles.
        ms: milliseconds a sequence.
    """
    case = LearningCase(**{"task": "recall", "model": model, "seed": seed, "levels": (2, 6), "sequences": 60_000, **changes})
    random = np.random.default_rng([seed, sum(map(ord, model))])
    half *= 1 + random.uniform(-0.15, 0.15)
    limit = case.sequences or int((case.seconds or 60) * 1000 / ms)
    curve, reached = [], None
    for sequences in np.linspace(limit / POINTS, limit, POINTS).astype(int):
        loss = float(2 ** (-sequences / half) * random.uniform(0.9, 1.1))
        level = case.levels[1]
        if case.curriculum != "none":
            level, loss = min(level, case.first_level * 2 ** int(sequences / half)), 0.05 * random.uniform(0.5, 1.5)
        curve.append(CurvePoint(sequences=int(sequences), wall_s=sequences * ms / 1000, level=level, loss=loss, errors=12 * loss))
        if case.curriculum == "none" and loss < case.goal:
            reached = int(sequences)
            break
    outcome = status or ("ok" if reached else "budget")
    started = outcome not in ("unavailable", "error")
    return LearningResult(
        case_id=case.case_id,
        status=outcome,
        reason=reason,
        case=case,
        answer=answer if started else None,
        level_means=level_means if started else None,
        curve=curve if started else [],
        evaluations=evaluations or [],
        validation=None if validation is None else Evaluation(level=case.levels[1], error=validation, sequences=256),
        sequences=curve[-1].sequences if started else 0,
        sequences_to_goal=reached if started else None,
        seconds_to_goal=reached * ms / 1000 if reached and started else None,
        level=max(point.level for point in curve) if started else None,
        parameters=12_345,
        peak_bytes=2**28,
        started_at="2026-01-01T00:00:00+00:00",
        wall_s=limit * ms / 1000,
    )


def fading(levels: list[int], trained: int, chance: float, steep: float = 1.0) -> list[Evaluation]:
    """Errors that rise from near zero, at the levels trained on, to chance."""
    errors = [chance * (1 - 0.98 / (1 + (level / (4 * trained)) ** (2 * steep))) for level in levels]
    return [Evaluation(level=level, error=error, chance=chance, sequences=256) for level, error in zip(levels, errors, strict=True)]


def instances(level: int, best: float) -> list[Evaluation]:
    """Accuracy that rises with the instance number to `best`."""
    chance = 1 - 1 / level
    rows = [Evaluation(level=level, error=1 - best * 0.8, chance=chance, sequences=256)]
    for instance in range(1, 11):
        accuracy = 1 / level + (best - 1 / level) * (1 - 0.45 ** (instance - 1))
        rows.append(Evaluation(level=level, group=instance, error=1 - accuracy, chance=chance, sequences=256))
    return rows


def questions(scale: float) -> list[Evaluation]:
    """bAbI errors of 20 tasks."""
    random = np.random.default_rng(int(100 * scale))
    errors = scale * random.uniform(0.2, 0.9, 20)
    rows = [Evaluation(level=1, error=float(errors.mean()), chance=0.7, sequences=6267)]
    return rows + [Evaluation(level=1, group=t + 1, error=float(e), chance=0.7, sequences=6267) for t, e in enumerate(errors)]


def many_runs() -> list[LearningResult]:
    """Runs of five experiments (fixed levels, a curriculum, generalization, one-shot, bAbI), and runs that failed."""
    seeds = range(3)
    runs = [
        make_run(model, seed, half=half, ms=ms, evaluations=fading([2, 4, 6, 12, 30, 60], 6, 24, steep), task_options={"value_bits": 48})
        for model, half, ms, steep in (("sam", 4000, 0.5, 0.6), ("dam", 5500, 2, 0.8), ("ntm", 9000, 3, 1), ("lstm", 40000, 0.2, 2))
        for seed in seeds
    ]
    runs.append(
        make_run(
            "dnc",
            0,
            status="oom",
            reason="out of memory after 400 s: the process may hold 2 GiB",
            sequences=20_000,
            task_options={"value_bits": 48},
        )
    )
    runs += [
        make_run(
            model,
            seed,
            half=half,
            ms=ms,
            sequences=None,
            seconds=3600,
            curriculum="exponential",
            levels=(1, 1 << 17),
            slots=slots,
            evaluations=fading([top // 2, top, 2 * top, 5 * top, 10 * top], top, 48),
        )
        for model, half, ms, slots, top in (("sam", 60000, 6, 1 << 20, 1024), ("dam", 36000, 20, 64, 16), ("ntm", 40000, 25, 64, 8))
        for seed in seeds
    ]
    runs += [
        make_run(
            model,
            seed,
            half=half,
            task="omniglot",
            levels=(5, 5),
            answer="class",
            level_means="characters",
            data="images_background_made_up.zip, 1 bytes, sha256 0",
            evaluations=instances(5, best + 0.02 * seed) + instances(20, best - 0.2),
        )
        for model, half, best in (("sam", 20000, 0.9), ("lstm", 50000, 0.6))
        for seed in seeds
    ]
    runs += [
        make_run(
            model,
            seed,
            half=1e5,
            task="babi",
            levels=(1, 1),
            answer="class",
            level_means="set of 20 tasks",
            data="tasks_1-20_made_up.tar.xz, 1 bytes, sha256 0",
            evaluations=questions(scale + 0.05 * seed),
            validation=scale + 0.05 * seed,
        )
        for model, scale in (("sam", 0.6), ("lstm", 0.8))
        for seed in range(2)
    ]
    runs.append(make_run("sdnc", 0, status="unavailable", reason="kernels: no compiler", task="copy", levels=(1, 20)))
    return runs
