"""What the committed results give: ratios, times, recall and sequences of training, as published numbers need them."""

import functools
import json
import statistics
from datetime import datetime
from pathlib import Path

import pandas as pd

from mann_bench.data.result import Measured, Result
from mann_bench.data.store import load_results
from mann_bench.measure.samples import split_rounds
from mann_bench.reports.analysis.ratios import Ratio, ratios
from mann_bench.reports.analysis.scaling import growths
from mann_bench.reports.claims.judge import judge_claims
from mann_bench.reports.data.frame import load_frame, without_run
from mann_bench.reports.data.quantity import TAPE
from mann_bench.reports.scaling.sentences import format_rate

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
MACHINE = "amd-epyc-2-threads"
XEON = "intel-xeon-2-threads"
GPU = "gpu-h100-80gb"
MILLION, SIXTEEN_MILLION = 2**20, 2**24


def folder(run: str) -> Path:
    """The folder of a run: of `MACHINE`, if the name does not say of which."""
    return RESULTS / run if (RESULTS / run).is_dir() else RESULTS / f"{run}-{MACHINE}"


@functools.cache
def frame(run: str) -> pd.DataFrame:
    """The results of a run (`folder`)."""
    return load_frame([folder(run)])


@functools.cache
def results(run: str) -> list[Result]:
    """The results of a run (`folder`), with all samples."""
    return load_results(folder(run))


def case(run: str, **fields: object) -> pd.Series:
    """The first case of a run that has these values in its fields."""
    rows = frame(run)
    for name, value in fields.items():
        rows = rows[rows[name] == value]
    return rows.iloc[0]


def on_torch(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    """The cases of a model that ran step by step in torch, as all dense ones did before they had native kernels."""
    return rows[(rows["model"] == model) & (rows["variant"] == "plain") & (rows["ran_kernels"] == "torch")]


def minutes(run: str) -> float:
    """Minutes from the start of a run's first case to the end of its last."""
    times = [(datetime.fromisoformat(result.started_at).timestamp(), result.wall_s) for result in results(run)]
    return (max(start + wall_s for start, wall_s in times) - min(start for start, _ in times)) / 60


def step_ms(run: str, **fields: object) -> float:
    """Median time of a step of that case."""
    return float(case(run, **fields)["step_ms_median"])


def native_dense_gain(run: str, model: str, against: str, **sizes: int) -> float:
    """How much faster a native model with a dense memory trains, in a run of suite `dense`, than a variant of it in torch."""
    ours = step_ms(run, model=model, variant="plain", ran_kernels="native", **sizes)
    return step_ms(run, model=model, variant=against, ran_kernels="torch", **sizes) / ours


def gains_of_native_dense(run: str) -> list[float]:
    """Of NTM, DAM and DNC at the size that training uses: against step by step, then against compiled."""
    models, ways = ("ntm", "dam", "dnc"), ("plain", "compiled")
    return [native_dense_gain(run, model, way, slots=128, steps=40) for way in ways for model in models]


@functools.cache
def paper_ratios() -> list[Ratio]:
    """Speed-ups of all curves in the run of the paper's set-ups."""
    return ratios(frame("paper"))


def speedup(heads: int, fastest: bool) -> tuple[float, float, float]:
    """How much faster SAM is than the NTM in torch, or than the fastest dense curve, at a million words; with its interval."""
    ratio = ratio_at_a_million(heads, fastest)
    return ratio.speedup, ratio.speedup_low, ratio.speedup_high


def ratio_at_a_million(heads: int, fastest: bool) -> Ratio:
    """SAM on its hash index against the NTM in torch, or against the fastest dense curve."""
    own = case("paper", model="sam", index="lsh", slots=MILLION, batch=1, steps=10, heads=heads)["case_id"]
    found = [ratio for ratio in paper_ratios() if ratio.subject_case == own]
    plain = set(on_torch(frame("paper"), "ntm")["case_id"])
    return min(found, key=lambda ratio: ratio.speedup) if fastest else next(ratio for ratio in found if ratio.twin_case in plain)


def fastest_dense(heads: int) -> str:
    """The name of the fastest dense curve at a million words."""
    return without_run(case("paper", case_id=ratio_at_a_million(heads, fastest=True).twin_case)["curve"])


@functools.cache
def claim(name: str) -> float:
    """What the run of the paper's set-ups gives for a claim, in the first of its set-ups."""
    value = next(verdict.value for verdict in judge_claims(frame("paper")) if verdict.claim.id == name)
    assert value is not None
    return value


@functools.cache
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


def search_by_two(heads: int) -> tuple[float, float, float]:
    """How much faster two threads search a million rows of one element than one does (`times_as_long`)."""
    one, two = (
        result("kernels", model="op:topk_content", kernels="native", index="exact", slots=MILLION, batch=1, heads=heads, threads=threads)
        for threads in (1, 2)
    )
    return times_as_long(one, two)


def native_us(slots: int) -> float:
    """Microseconds of a step of native SAM with one head."""
    return 1e3 * step_ms("kernels", model="sam", kernels="native", slots=slots, heads=1, batch=1, threads=1, steps=100)


def ntm_at_a_million() -> pd.Series:
    return case("paper", model="ntm", variant="plain", ran_kernels="torch", slots=MILLION, heads=1, batch=1)


def ntm_spread() -> float:
    """Half the interval of its time, as a part of it."""
    ntm = ntm_at_a_million()
    return float((ntm["step_ms_ci_high"] - ntm["step_ms_ci_low"]) / 2 / ntm["step_ms_median"])


def result(run: str, **fields: object) -> Result:
    """The first result of a run whose case has these values in its fields."""
    return next(each for each in results(run) if all(getattr(each.case, name) == value for name, value in fields.items()))


def times_as_long(subject: Result, other: Result) -> tuple[float, float, float]:
    """Time of a pass as a multiple of that of a case timed in turn with it, in each round: their median and quartiles."""
    of_rounds = [own / others for own, others in zip(round_medians(subject), round_medians(other), strict=True)]
    low, median, high = statistics.quantiles(of_rounds, n=4)
    return median, low, high


def sixteen_millions(heads: int) -> tuple[float, float, float]:
    """Time of a step of SAM on its hash index at 16 million words as a multiple of that at one (`times_as_long`)."""
    many, few = (result("hashed", slots=slots, heads=heads) for slots in (SIXTEEN_MILLION, MILLION))
    return times_as_long(many, few)


def round_medians(measured: Result) -> list[float]:
    """The median time of a pass in each round."""
    assert isinstance(measured, Measured)
    assert measured.time is not None
    return [statistics.median(times) for times in split_rounds(measured.time.pass_ms.samples, measured.time.round_counts)]


def long_sequence_s() -> float:
    long = case("kernels", steps=100_000)
    return float(long["step_ms_median"] * long["steps"] / 1e3)


def on_gpu(curve: str, slots: int = MILLION, steps: int = 10) -> pd.Series:
    """The case of a curve in the run on a GPU."""
    return case(GPU, curve=curve, slots=slots, steps=steps)


def gpu_ms(curve: str, slots: int = MILLION, steps: int = 10) -> float:
    """Median time of a step of that case."""
    return float(on_gpu(curve, slots, steps)["step_ms_median"])


@functools.cache
def gpu_speedup(curve: str, twin: str, slots: int = MILLION) -> tuple[float, float, float]:
    """How much faster a curve is than another on the GPU, with its interval."""
    own = on_gpu(curve, slots)["case_id"]
    found = next(ratio for ratio in ratios(frame(GPU)) if ratio.subject_case == own and ratio.twin == twin)
    return found.speedup, found.speedup_low, found.speedup_high


def rate(model: str) -> str:
    """What one more slot adds to the bytes that a step keeps for backward, in the run of suite `quick`."""
    (growth,) = [growth for (_, curve), growth in growths(frame("quick"), TAPE).items() if curve in (model, f"{model} torch")]
    return format_rate(growth, TAPE)


def reference_copies() -> str:
    """The rows of the table of the oldest training runs, which are of a format of their own: a run a line."""
    runs = [json.loads(line) for line in (RESULTS / "learning-reference" / "runs.jsonl").read_text().splitlines()]
    heads = ("model", "seed", "sequences", "bits per bit", "under 0.02", "s")
    rows = [
        (
            run["model"],
            run["seed"],
            f"{run['sequences']:,}",
            f"{run['bits_per_bit']:.4f}",
            "yes" if run["reached"] else "no",
            f"{run['wall_s']:.0f}",
        )
        for run in runs
        if run["task"] == "copy"
    ]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (heads, ["---"] * len(heads), *rows))
