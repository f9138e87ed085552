"""Numbers that are typed in docs/results/README.md: each is what the committed results of its run give."""

import functools
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pandas as pd
import pytest

from mann_bench.data.store import load_records
from mann_bench.learn.memory_size import rows_written
from mann_bench.learn.record import LEARNING, LearningResult
from mann_bench.reports.analysis.ratios import Ratio, ratios
from mann_bench.reports.claims.judge import judge_claims
from mann_bench.reports.data.frame import load_frame
from mann_bench.reports.learning.experiments import Curve
from mann_bench.suites.tasks import find_task

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
PAGE = " ".join((RESULTS / "README.md").read_text().split())
MACHINE = "amd-epyc-2-threads"
TASKS = ("copy", "recall-3-6", "sort")
MILLION, SIXTEEN_MILLION = 2**20, 2**24


@functools.cache
def frame(run: str) -> pd.DataFrame:
    """The results of a run."""
    return load_frame([RESULTS / f"{run}-{MACHINE}"])


def case(run: str, **fields: object) -> pd.Series:
    """The first case of a run that has these values in its fields."""
    rows = frame(run)
    for name, value in fields.items():
        rows = rows[rows[name] == value]
    return rows.iloc[0]


def step_ms(run: str, **fields: object) -> float:
    """Median time of a step of that case."""
    return float(case(run, **fields)["step_ms_median"])


@functools.cache
def paper_ratios() -> list[Ratio]:
    """Speed-ups of all curves in the run of the paper's set-ups."""
    return ratios(frame("paper"))


def speedup(heads: int, fastest: bool) -> tuple[float, float, float]:
    """How much faster SAM is than the NTM, or than the fastest dense variant, at a million words; with its interval."""
    own = case("paper", model="sam", index="lsh", slots=MILLION, batch=1, steps=10, heads=heads)["case_id"]
    found = [ratio for ratio in paper_ratios() if ratio.subject_case == own]
    ratio = min(found, key=lambda ratio: ratio.speedup) if fastest else next(ratio for ratio in found if ratio.twin == "ntm")
    return ratio.speedup, ratio.speedup_low, ratio.speedup_high


@functools.cache
def claim(name: str) -> float:
    """What the run of the paper's set-ups gives for a claim, in the first of its set-ups."""
    value = next(verdict.value for verdict in judge_claims(frame("paper")) if verdict.claim.id == name)
    assert value is not None
    return value


@functools.cache
def curve(task: str, model: str) -> Curve:
    """The training runs of a model on a task."""
    runs = load_records(RESULTS / f"learning-{task}-{MACHINE}", LEARNING)
    return Curve(model, tuple(run for run in runs if run.case.model == model))


def sequences(task: str, *models: str) -> list[float]:
    """Median sequences until the goal; where half of the seeds did not reach it, what the first of these had trained on."""
    goals = [curve(task, model).to_goal("sequences") for model in models]
    return [goal.value if 2 * goal.reached > goal.seeds else goal.limit for goal in goals]


def reached(task: str, model: str) -> int:
    """How many of three seeds reached the goal."""
    goal = curve(task, model).to_goal("sequences")
    assert goal.seeds == 3
    return goal.reached


def losses(task: str, model: str) -> tuple[float, float]:
    """Lowest and highest loss of the seeds where the first NTM ended, or at the goal if that was earlier."""
    end = min(run.sequences for run in curve(task, "ntm").runs)

    def loss(run: LearningResult) -> float:
        return [point.loss for point in run.curve if point.sequences <= end][-1]

    of_seeds = sorted(map(loss, curve(task, model).runs))
    return of_seeds[0], of_seeds[-1]


def times_as_many(task: str) -> float:
    """Sequences that SAM needs, as a multiple of the DAM's."""
    sam, dam = sequences(task, "sam", "dam")
    return sam / dam


def times_ahead(task: str) -> float:
    """Seconds that the DAM needs, as a multiple of SAM's."""
    return curve(task, "dam").to_goal("seconds").value / curve(task, "sam").to_goal("seconds").value


def native_gain(heads: int, batch: int) -> float:
    """How much faster native sequences are than step by step."""
    sizes = {"model": "sam", "slots": 2**16, "heads": heads, "batch": batch, "threads": 1, "steps": 100}
    return step_ms("kernels", **sizes, kernels="torch") / step_ms("kernels", **sizes, kernels="native")


def times_the_controller(batch: int, threads: int) -> float:
    """Time of native SAM with one head, as a multiple of the LSTM's."""
    sizes = {"slots": 2**16, "heads": 1, "batch": batch, "threads": threads, "steps": 100}
    return step_ms("kernels", **sizes, model="sam", kernels="native") / step_ms("kernels", **sizes, model="lstm")


def two_threads(model: str, heads: int) -> float:
    """How much faster two threads are than one."""
    return step_ms("threads", model=model, heads=heads, threads=1) / step_ms("threads", model=model, heads=heads, threads=2)


def native_us(slots: int) -> float:
    """Microseconds of a step of native SAM with one head."""
    return 1e3 * step_ms("kernels", model="sam", kernels="native", slots=slots, heads=1, batch=1, threads=1, steps=100)


def recall(index: str, slots: int, reads: int) -> float:
    return float(case("index", model="index:query", index=index, slots=slots, reads=reads)["recall"])


def query_ms(index: str, slots: int, reads: int) -> float:
    return step_ms("index", model="index:query", index=index, slots=slots, reads=reads)


def recall_per_time(slots: int) -> float:
    """Recall@1 a microsecond of `lsh`, as a multiple of faiss IVF's."""
    own, other = (recall(index, slots, 1) / query_ms(index, slots, 1) for index in ("lsh", "faiss-ivf"))
    return own / other


def update_share(slots: int) -> float:
    """Time of an update of `lsh`, as a part of faiss IVF's."""
    own, other = (step_ms("index", model="index:update", index=index, slots=slots, mode="infer") for index in ("lsh", "faiss-ivf"))
    return own / other


def ntm_at_a_million() -> pd.Series:
    return case("paper", model="ntm", variant="plain", slots=MILLION, heads=1, batch=1)


def ntm_spread() -> float:
    """Half the interval of its time, as a part of it."""
    ntm = ntm_at_a_million()
    return float((ntm["step_ms_ci_high"] - ntm["step_ms_ci_low"]) / 2 / ntm["step_ms_median"])


def sixteen_millions(heads: int) -> float:
    """Time of a step at 16 million words, as a multiple of that at one."""
    sizes = {"model": "sam", "index": "lsh", "batch": 1, "steps": 10, "heads": heads}
    return step_ms("paper", **sizes, slots=SIXTEEN_MILLION) / step_ms("paper", **sizes, slots=MILLION)


def long_sequence_s() -> float:
    long = case("kernels", steps=100_000)
    return float(long["step_ms_median"] * long["steps"] / 1e3)


SIZES = (2**16, MILLION)
NUMBERS: list[tuple[str, Callable[[], list[object]]]] = [  # text of the page, and what computes its numbers
    (
        "Copy: SAM {:,.0f}, DAM {:,.0f}, SDNC {:,.0f}; NTM and DNC not within the {:,.0f} and {:,.0f} that three minutes allow, "
        "LSTM not within {:,.0f}.",
        lambda: [*sequences("copy", "sam", "dam", "sdnc", "ntm", "dnc", "lstm")],
    ),
    (
        "Recall: SDNC {:,.0f}, DAM {:,.0f}, DNC {:,.0f}, SAM {:,.0f}",
        lambda: [*sequences("recall-3-6", "sdnc", "dam", "dnc", "sam")],
    ),
    (
        "Sort: SDNC {:,.0f}, DAM {:,.0f}, SAM {:,.0f}; DNC one of three within {:,.0f}",
        lambda: [*sequences("sort", "sdnc", "dam", "sam", "dnc")],
    ),
    (
        "after {:,.0f} sequences of copy {:.2f}-{:.2f} against SAM's {:.2f}-{:.2f}",
        lambda: [*sequences("copy", "ntm"), *losses("copy", "ntm"), *losses("copy", "sam")],
    ),
    (
        "after {:,} of sort {:.2f}-{:.2f} against {:.2f}-{:.2f}",
        lambda: [min(run.sequences for run in curve("sort", "ntm").runs), *losses("sort", "ntm"), *losses("sort", "sam")],
    ),
    (
        "after {:,} of recall {:.2f}-{:.2f} against {:.2f}-{:.2f}",
        lambda: [min(run.sequences for run in curve("recall-3-6", "ntm").runs), *losses("recall-3-6", "ntm"), *losses("recall-3-6", "sam")],
    ),
    ("ahead of the DAM on copy ({:.1f} times) and sort ({:.1f} times)", lambda: [times_ahead("copy"), times_ahead("sort")]),
    (
        "at one head {:,.0f} times [{:,.0f}, {:,.0f}] as fast as the NTM "
        "and {:,.0f} times [{:,.0f}, {:,.0f}] as fast as the fastest dense variant",
        lambda: [*speedup(1, fastest=False), *speedup(1, fastest=True)],
    ),
    (
        "at four heads {:,.0f} [{:,.0f}, {:,.0f}] and {:,.0f} [{:,.0f}, {:,.0f}]",
        lambda: [*speedup(4, fastest=False), *speedup(4, fastest=True)],
    ),
    ("The NTM took {:.0f} ms a step, with a spread of {:.0%}", lambda: [ntm_at_a_million()["step_ms_median"], ntm_spread()]),
    ("16 million words take {:.2f} and {:.2f} times as long as one million", lambda: [sixteen_millions(1), sixteen_millions(4)]),
    (
        "1 and 4 heads: {:.0f} and {:.0f} times at batch 1, {:.0f} and {:.0f} at batch 8",
        lambda: [native_gain(heads, batch) for batch in (1, 8) for heads in (1, 4)],
    ),
    (
        "at one head: {:.2f} times at batch 1, {:.2f} at batch 8 ({:.2f} on two threads)",
        lambda: [times_the_controller(1, 1), times_the_controller(8, 1), times_the_controller(8, 2)],
    ),
    (
        "at batch 8: {:.2f} and {:.2f} times for SAM, {:.2f} and {:.2f} for the SDNC",
        lambda: [two_threads(model, heads) for model in ("sam", "sdnc") for heads in (1, 4)],
    ),
    ("Flat in N: {:.1f}, {:.1f} and {:.1f} us a step at 4k, 4M and 16M", lambda: [native_us(n) for n in (2**12, 2**22, SIXTEEN_MILLION)]),
    (
        "the tape of four heads over 100 steps is {:.2f} MiB",
        lambda: [case("kernels", model="sam", kernels="native", heads=4, batch=1, slots=2**12)["tape_bytes"] / 2**20],
    ),
    ("train in one piece, {:.1f} s", lambda: [long_sequence_s()]),
    (
        "The SDNC's links take {:.1f} us a step",
        lambda: [1e3 * step_ms("kernels", model="op:link_steps", kernels="native", slots=2**16, batch=1, fill="full")],
    ),
    (
        "recall@1 {:.2f} and {:.2f} against {:.2f} and {:.2f}, recall@4 {:.2f} and {:.2f} against {:.2f} and {:.2f}, "
        "in {:.0%} of its query time",
        lambda: [
            *(recall(index, slots, reads) for reads in (1, 4) for index in ("lsh", "kd-forest") for slots in SIZES),
            median(query_ms("lsh", slots, reads) / query_ms("kd-forest", slots, reads) for slots in SIZES for reads in (1, 4)),
        ],
    ),
    ("`lsh-95` finds {:.2f} and {:.2f}", lambda: [recall("lsh-95", slots, 1) for slots in SIZES]),
    (
        "Against faiss IVF: {:.1f} and {:.0f} times its recall@1 a microsecond, an update in {:.2f} and {:.2f} of its time",
        lambda: [*map(recall_per_time, SIZES), *map(update_share, SIZES)],
    ),
    (
        "an exact search is {:.0f} times as fast as the NTM, not 100, and memory over 100 steps is {:,.0f} times less, not 3,700",
        lambda: [claim("time-exact"), claim("memory-ratio")],
    ),
    (
        "our NTM keeps {:.0f} bytes a slot and step",
        lambda: [case("paper", model="ntm", variant="plain", slots=2**16, batch=1, steps=100)["bytes_per_step"] / 2**16],
    ),
]


@pytest.mark.parametrize(("text", "compute"), NUMBERS, ids=[text[:40] for text, _ in NUMBERS])
def test_a_number_on_the_page_is_what_the_results_give(text, compute):
    assert text.format(*compute()) in PAGE


def test_seeds_that_did_not_reach_the_goal():
    assert "SAM 247,088 (two of three seeds); NTM one of three, LSTM none" in PAGE
    assert [reached("recall-3-6", model) for model in ("sam", "ntm", "lstm")] == [2, 1, 0]
    assert "DNC one of three within 31,504, NTM and LSTM none" in PAGE
    assert [reached("sort", model) for model in ("dnc", "ntm", "lstm")] == [1, 0, 0]


def test_what_the_page_rounds():
    assert "On recall and sort it needed about 2.5 times as many" in PAGE
    assert all(2.25 <= times_as_many(task) <= 2.75 for task in ("recall-3-6", "sort"))
    assert "as many sequences as the DAM on copy" in PAGE
    assert 0.9 <= times_as_many("copy") <= 1.1


def test_rows_that_a_sequence_overwrites():
    cases = [curve(task, "sam").case for task in ("recall-3-6", "sort")]
    written = [rows_written(case, find_task(case.task, options=case.task_options), case.levels[1]) for case in cases]
    assert f"overwrite {written[0]} rows in a sequence of recall and {written[1]} in one of sort" in PAGE
    assert f"the memories have {cases[0].slots} and {cases[1].slots}" in PAGE
