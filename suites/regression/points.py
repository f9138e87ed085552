"""Points that asv tracks: the cases of `regression.toml`, each measured in processes of its own by the suite's runner.

All cases are measured once a commit (`setup_cache`), interleaved and in two processes each, so that a slow minute falls on all of them.
The benchmarks below only select what to track. A sample of time is the median of a quarter of a process's passes: asv's test assumes
independent samples, and passes that follow each other are not. What a commit cannot run is NaN, which asv shows as n/a.

asv runs this file against the code of other commits, older ones too: it uses as little of that code as possible. And asv starts a process
for each point, which imports this file: only `measure_all` imports the project, and torch with it.
"""

import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

if TYPE_CHECKING:
    from mann_bench.data.result import Result

SOURCE = Path(__file__).parent / "regression.toml"
PROCESSES = 2
PARTS = 4  # samples that the passes of a process are divided into
NAMES = [
    *("lstm 1k", "ntm 1k", "ntm native 1k", "ntm-checkpointed 1k", "dam 1k", "dnc 256"),
    *("sam 16k", "sdnc 16k", "sam infer 16k", "sdnc infer 16k", "sam torch 16k", "sam lsh 64k"),
]
DENSE = ("ntm", "dam", "dnc")
TRAINED = [name for name in NAMES if "infer" not in name]  # only training saves bytes for backward
FAST = ["ntm native 1k", "sam 16k", "sdnc 16k", "sam lsh 64k"]  # compared with the plain reference before they are timed
INDEXED = ["sam lsh 64k"]

Fields = dict[str, object]  # of a result
Stored = dict[str, list[Fields]]  # results by the name of the case, one for each process
Track = TypeVar("Track", bound=Callable[..., object])


class Times(TypedDict):
    """A time in asv's format."""

    samples: list[float]
    number: int


def name_of(case: dict[str, Any]) -> str:
    """Short name of a case, as `sam infer 16k`: its model, the fields that differ from the default, its slots.

    Of a plain dense model torch is the default of kernels: its history began before there were others.
    """
    usual = "torch" if case["model"] in DENSE and case["variant"] == "plain" else "auto"
    words = [case["model"] if case["variant"] == "plain" else f"{case['model']}-{case['variant']}"]
    words += [case[field] for field, default in (("kernels", usual), ("index", "exact"), ("mode", "train")) if case[field] != default]
    return " ".join([*words, f"{case['slots'] // 1024}k" if case["slots"] >= 1024 else str(case["slots"])])


def measure_all() -> Stored:
    """Measure every case in each of `PROCESSES` processes; results by the name of the case."""
    try:
        from mann_bench.data.suite import parse_suite
        from mann_bench.run.runner import comparisons, run_side_by_side
    except ModuleNotFoundError:  # a commit before 0.2.0
        from mann_bench.runner import comparisons, run_side_by_side  # type: ignore[import-not-found, no-redef]
        from mann_bench.suite import parse_suite  # type: ignore[import-not-found, no-redef]

    suite = parse_suite(SOURCE.read_text(), SOURCE.name)
    stored: Stored = {}
    for _ in range(PROCESSES):
        for cases in comparisons(suite.cases):
            for result in run_side_by_side(cases, suite.budget, lambda *_: None):
                name = name_of(result.case.model_dump())
                if result.case.kernels == "native" and result.backend and result.backend.kernels != "native":
                    continue  # a commit, or a machine, that has no such kernels
                stored.setdefault(name, []).append(fields_of(result))
                if result.status != "ok":
                    print(f"{name}: {result.status}: {result.reason}", file=sys.stderr)
    if not any(result["status"] == "ok" for results in stored.values() for result in results):
        raise RuntimeError(f"no case could be measured: {next(iter(stored.values()))[0]['reason']}")
    return stored


def fields_of(result: "Result") -> Fields:
    """The fields of a result, and `steps_s`: its samples of the time of a step [seconds], or None."""
    if result.time is None:
        return {**result.model_dump(by_alias=True), "steps_s": None}
    passes = result.time.pass_ms.samples
    size = max(1, math.ceil(len(passes) / PARTS))
    samples = [statistics.median(passes[i : i + size]) / 1e3 / result.case.steps for i in range(0, len(passes), size)]
    return {**result.model_dump(by_alias=True), "steps_s": samples}


def times_s(results: list[Fields]) -> Times:
    """Seconds a step in asv's format; one NaN where a process failed."""
    samples: list[float] = []
    for result in results:
        of_process = result["steps_s"]
        if not isinstance(of_process, list):
            return {"samples": [math.nan], "number": 1}
        samples += of_process
    return {"samples": samples, "number": 1}


def worst(results: list[Fields], *path: str) -> float:
    """Largest value of a field (by its path of keys) over the processes; NaN where a process has none."""
    values = []
    for result in results:
        value: object = result
        for name in path:
            value = value[name] if isinstance(value, dict) else None
        values.append(float(value) if isinstance(value, int | float) else math.nan)
    return math.nan if any(map(math.isnan, values)) else max(values)


def rounded(value: float) -> float:
    """A number with as many digits as it is worth: asv rounds seconds and bytes, and prints others in full."""
    return float(f"{value:.3g}")


def unit(name: str) -> Callable[[Track], Track]:
    """Tell asv the unit of a benchmark."""

    def mark(track: Track) -> Track:
        track.unit = name  # type: ignore[attr-defined]
        return track

    return mark


class Tracked:
    """Base of the benchmarks: they share one measurement a commit."""

    param_names = ("case",)
    timeout = 1800.0

    def setup_cache(self) -> Stored:
        """Measure; asv passes the return value to all benchmarks."""
        return measure_all()


class Steps(Tracked):
    """Time and peak memory of every case."""

    params = (NAMES,)

    @unit("seconds")
    def track_step(self, stored: Stored, case: str) -> Times:
        """Time of a step."""
        return times_s(stored[case])

    @unit("bytes")
    def track_peak_bytes(self, stored: Stored, case: str) -> float:
        """Peak of all allocated bytes: model, memory and pass."""
        return worst(stored[case], "memory", "peak_bytes")


class Tape(Tracked):
    """Memory of backward."""

    params = (TRAINED,)

    @unit("bytes")
    def track_bytes_per_step(self, stored: Stored, case: str) -> float:
        """Bytes saved for backward per step."""
        return worst(stored[case], "memory", "bytes_per_step")


class Error(Tracked):
    """Error of the fast paths."""

    params = (FAST,)

    @unit("relative RMS")
    def track_relative_error(self, stored: Stored, case: str) -> float:
        """Largest difference from the plain reference over outputs and gradients."""
        return rounded(worst(stored[case], "check", "max_rel_err"))


class Missed(Tracked):
    """Rows that an approximate index misses."""

    params = (INDEXED,)

    @unit("1 - recall")
    def track_missed(self, stored: Stored, case: str) -> float:
        return rounded(1 - worst(stored[case], "recall"))
