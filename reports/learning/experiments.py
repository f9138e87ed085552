"""Training runs grouped into curves (one setting, several seeds) and experiments (curves of one question), and estimates over seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mann_bench.data.options import Options
from mann_bench.data.text import one_line
from mann_bench.data.units import format_slots
from mann_bench.learn.record import LearningCase, LearningResult, furthest
from mann_bench.learn.under_way import load_stored
from mann_bench.reports.learning.studies import Place, load_study_records, places_in

Floats = NDArray[np.float64]
X = Literal["sequences", "wall_s"]
Y = Literal["loss", "level", "errors"]
ToGoal = Literal["sequences", "seconds"]
DRAWS = 2000  # of the bootstrap over seeds
VARIES = {"seed", "sequences", "seconds", "stop_at_goal", "threads", "device", "memory_bytes"}  # fields in which runs of a curve differ
SHARED = ("task", "task_options", "data", "curriculum", "levels", "goal", "batch")  # fields that are equal in all curves of a plot
LETTERS = {"slots": "N", "word_size": "W", "heads": "R", "reads": "K", "hidden": "H", "learning_rate": "rate", "momentum": "momentum"}
NAMING = (
    *("kernels", "index", "test_index", "fill", "options", *LETTERS, "optimizer", "clip"),
    *("first_level", "patience", "curriculum_threshold"),
)


@dataclass(frozen=True)
class Band:
    """Median, lowest and highest value over the seeds at each x."""

    x: Floats
    median: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Estimate:
    """What it takes to reach a goal: the median over seeds, with its 95% bootstrap interval.

    `reached` of `seeds` reached the goal; the others count as infinite. The median is infinite if fewer than half did; it is then larger
    than `limit`, the least that a seed was given without reaching the goal.
    """

    value: float
    low: float
    high: float
    reached: int
    seeds: int
    limit: float


@dataclass(frozen=True)
class Curve:
    """One line of a plot: runs that differ only in seed, limits and machine. `arm`: of a study; "" without."""

    name: str
    runs: tuple[LearningResult, ...]
    arm: str = ""

    @property
    def case(self) -> LearningCase:
        """The case of the first seed."""
        return self.runs[0].case

    @property
    def trained(self) -> list[LearningResult]:
        """Runs with a curve; the others could not even start."""
        return [run for run in self.runs if run.curve]

    def band(self, x: X, y: Y) -> Band | None:
        """Return median and range over seeds at every x that one of them has a point at; None if nothing was trained.

        A run that reached its goal keeps its last value. The band ends where the first of the other runs ends.
        """
        if not self.trained:
            return None
        seeds = [(_column(run, x), _column(run, y)) for run in self.trained]
        unfinished = [points[-1] for run, (points, _) in zip(self.trained, seeds, strict=True) if run.sequences_to_goal is None]
        grid = np.unique(np.concatenate([points for points, _ in seeds]))
        grid = grid[(grid >= max(points[0] for points, _ in seeds)) & (grid <= min(unfinished, default=np.inf))]
        if y == "level":  # a level holds until the next point
            values = np.stack([levels[np.searchsorted(points, grid, side="right") - 1] for points, levels in seeds])
        else:
            values = np.stack([np.interp(grid, points, heights) for points, heights in seeds])
        return Band(grid, np.median(values, 0), values.min(0), values.max(0)) if len(grid) else None

    def to_goal(self, what: ToGoal) -> Estimate:
        """Estimate the sequences or seconds of training until the goal."""
        return self._estimate(
            lambda run: run.sequences_to_goal if what == "sequences" else run.seconds_to_goal,
            lambda run: run.sequences if what == "sequences" else run.curve[-1].wall_s,
        )

    def to_level(self, level: int, x: X) -> Estimate:
        """Estimate the sequences or seconds until the curriculum reached a level."""
        return self._estimate(
            lambda run: next((float(getattr(point, x)) for point in run.curve if point.level >= level), None),
            lambda run: float(getattr(run.curve[-1], x)),
        )

    def levels_at(self, seconds: float) -> list[int]:
        """Return the highest level of each seed after this training time, sorted."""
        return sorted(max((point.level for point in run.curve if point.wall_s <= seconds), default=0) for run in self.trained)

    def _estimate(self, need: Callable[[LearningResult], float | None], total: Callable[[LearningResult], float]) -> Estimate:
        """The estimate of `need`, None in a run that did not reach the goal, which had `total`."""
        needs = [need(run) for run in self.trained]
        values = np.array([np.inf if value is None else value for value in needs], dtype=float)
        limits = [total(run) for run, value in zip(self.trained, needs, strict=True) if value is None]
        limit = float(min(limits, default=np.inf))
        if not len(values):
            return Estimate(np.inf, np.inf, np.inf, 0, len(self.runs), 0.0)
        low, high = np.quantile(resampled_medians(values), (0.025, 0.975), method="nearest")
        return Estimate(median_of(values), float(low), float(high), int(np.isfinite(values).sum()), len(self.runs), limit)


@dataclass(frozen=True)
class Experiment:
    """Curves that answer one question: the same task, levels and goal."""

    title: str
    curves: tuple[Curve, ...]

    @property
    def case(self) -> LearningCase:
        """The case of the first run."""
        return self.curves[0].case

    @property
    def runs(self) -> list[LearningResult]:
        """The runs of all curves."""
        return [run for curve in self.curves for run in curve.runs]

    @property
    def by_host(self) -> dict[str, "Experiment"]:
        """The trained runs of each host, as only their seconds compare; "": all, where there are not several hosts."""
        hosts = dict.fromkeys(run.host for curve in self.curves for run in curve.trained if run.host)
        if len(hosts) < 2:
            return {"": self}
        parts = {
            host: [replace(curve, runs=tuple(run for run in curve.trained if run.host == host)) for curve in self.curves] for host in hosts
        }
        return {host: replace(self, curves=tuple(curve for curve in curves if curve.runs)) for host, curves in parts.items()}

    @property
    def reference(self) -> Curve | None:
        """The curve that the others are compared with: the first trained SAM."""
        return next((curve for curve in self.curves if curve.case.model == "sam" and curve.trained), None)

    def reference_of(self, curve: Curve) -> Curve | None:
        """The curve that one is compared with: SAM in the same arm; other arms of SAM with the first. None for that one itself."""
        of_arm = (other for other in self.curves if other.case.model == "sam" and other.trained and other.arm == curve.arm)
        found = self.reference if curve.case.model == "sam" else next(of_arm, self.reference)
        return None if found is curve else found

    @property
    def has_curriculum(self) -> bool:
        """Whether the level grows during training."""
        return self.case.curriculum != "none"

    @cached_property
    def unit(self) -> str:
        """What a level counts, as "pairs"."""
        return one_line(next((run.level_means for run in self.runs if run.level_means), "level"))

    @cached_property
    def counts_bits(self) -> bool:
        """Whether errors are wrong bits a sequence; otherwise they are fractions of wrong answers."""
        return next((run.answer for run in self.runs if run.answer), "bits") == "bits"

    @cached_property
    def common_seconds(self) -> float:
        """The training time that every run had, or was allowed to have."""
        unfinished = [run.curve[-1].wall_s for run in self.runs if run.curve and run.status == "budget"]
        limits = [run.case.seconds for run in self.runs if run.case.seconds is not None]
        return max([*unfinished, 0.0]) if not limits else float(min(limits))

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """One row for each error of each run; error NaN: not measured; group -1: all answers.

        `overwrites`: the sequences write more rows than the memory has, so what came first is lost.
        """
        rows = [
            {
                **{"curve": curve.name, "case_id": run.case_id, "seed": run.case.seed, **evaluation.model_dump()},
                "overwrites": (evaluation.rows_written or 0) > run.case.slots,
            }
            for curve in self.curves
            for run in curve.runs
            for evaluation in run.evaluations
        ]
        columns = ["curve", "case_id", "seed", "level", "group", "error", "chance", "sequences", "overwrites", "reason"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.assign(group=frame["group"].fillna(-1).astype(int), overwrites=frame["overwrites"].astype(bool))

    def trained_level(self, curve: Curve) -> int:
        """Return the highest level that the median seed was trained on."""
        if not self.has_curriculum:
            return self.case.levels[1]
        return int(np.median([run.level or self.case.levels[0] for run in curve.trained] or [self.case.levels[0]]))


def load_experiments(folders: Sequence[Path], *, choosing: bool = False) -> list[Experiment]:
    """Load training runs and group those of one question; UsageError naming file and line if one cannot be read.

    A run that is stored several times (with larger limits, or again) counts once, as trained the longest.

    Args:
        choosing: instead load the runs by which studies chose; otherwise these are left out, since they are not reported.
    """
    results = furthest(result for folder in folders for result in load_stored(folder))
    studies = load_study_records(folders)
    choose = {run_id for study in studies for configuration in study.configurations for run_id in configuration.selection_ids}
    places = {} if choosing else places_in(studies)
    order = {run_id: number for number, run_id in enumerate(places)}
    shown = [result for run_id, result in results.items() if (run_id in choose) == choosing]
    shown.sort(key=lambda result: order.get(result.run_id, len(order)))
    questions: dict[str, list[LearningResult]] = {}
    for result in shown:
        questions.setdefault(repr([getattr(result.case, name) for name in SHARED]), []).append(result)
    titles = [("choosing, " if choosing else "") + one_line(_title(runs[0].case, runs)) for runs in questions.values()]
    return [
        Experiment(title if titles.count(title) == 1 else f"{title}, goal {runs[0].case.goal:g}", _curves(runs, places))
        for title, runs in zip(titles, questions.values(), strict=True)
    ]


def median_of(values: Floats) -> float:
    """The median; infinite if half or more of the values are."""
    ordered = np.sort(values)
    return float((ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2)


def resampled_medians(values: Floats, seed: int = 0) -> Floats:
    """Medians [DRAWS] of values drawn with replacement."""
    drawn = np.sort(np.random.default_rng(seed).choice(values, (DRAWS, len(values))), 1)
    return np.asarray((drawn[:, (len(values) - 1) // 2] + drawn[:, len(values) // 2]) / 2)


def _column(run: LearningResult, name: str) -> Floats:
    return np.array([getattr(point, name) for point in run.curve], dtype=float)


def _title(case: LearningCase, results: list[LearningResult]) -> str:
    low, high = case.levels
    unit = next((result.level_means for result in results if result.level_means), "(levels)")
    options = [f"{name.replace('_', ' ')} {value}" for name, value in sorted(case.task_options.items())]
    if case.curriculum != "none":
        reached = any(result.level == high for result in results)  # an upper end that no run reached is left out
        size = [f"curriculum up to {high:,} {unit}" if reached else f"curriculum in {unit}"]
    elif (low, high) == (1, 1):
        size = []
    else:
        size = [f"{low} to {high} {unit}" if low < high else f"{high} {unit}"]
    return ", ".join([case.task, *size, *options, f"batch {case.batch}"])


def _curves(results: list[LearningResult], places: Mapping[str, Place]) -> tuple[Curve, ...]:
    """Curves of runs: those of a study by its configurations, all others by their settings."""
    settings: dict[str, list[LearningResult]] = {}
    for result in results:
        place = places.get(result.run_id)
        settings.setdefault(repr(place or result.case.model_dump(exclude=VARIES)), []).append(result)
    groups = [sorted(runs, key=lambda run: run.case.seed) for runs in settings.values()]
    cases = [group[0].case for group in groups if group[0].run_id not in places]
    placed = [places.get(group[0].run_id) for group in groups]
    names = [place.name if place else _name(group[0].case, cases) for place, group in zip(placed, groups, strict=True)]
    names = [f"{n} ({p.study})" if p and names.count(n) > 1 else n for n, p in zip(names, placed, strict=True)]
    arms = [place.arm if place else "" for place in placed]
    return tuple(Curve(one_line(name), tuple(runs), arm) for name, runs, arm in zip(names, groups, arms, strict=True))


def _name(case: LearningCase, cases: list[LearningCase]) -> str:
    """The shortest name that tells this curve from the others of its model: `sam`, `ntm-checkpointed`, `sam lsh N 64k`."""
    parts = [case.name]
    for field in NAMING:
        value = getattr(case, field)
        if len({repr(getattr(other, field)) for other in cases if other.name == case.name}) > 1:
            parts.append(f"{LETTERS[field]} {_text(field, value)}" if field in LETTERS else _text(field, value))
    return " ".join(parts)


def _text(field: str, value: object) -> str:
    if isinstance(value, Options):
        return str(value) or "as by default"
    if field == "slots" and isinstance(value, int):
        return format_slots(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
