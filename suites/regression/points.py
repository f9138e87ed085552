"""The points asv tracks: cases of `regression.toml`, each run in processes of its own by the suite's runner.

All cases are measured once a commit (`setup_cache`), in turn and twice over, so that a slow minute falls on all of them; the benchmarks
below only say what of it to track. A sample of time is the median of a quarter of a process's passes: passes that follow each other are
not independent, and asv's test believes samples to be. What a commit cannot run is NaN, which asv shows as n/a.

asv runs this file against the code of other commits: it uses as little of it as it can.
"""

import math
import statistics
import sys
from pathlib import Path
from typing import Any

try:
    from mann_bench.data.result import parse_result
    from mann_bench.data.suite import parse_suite
    from mann_bench.run.runner import comparisons, run_side_by_side
except ModuleNotFoundError:  # a commit before 0.2.0
    from mann_bench.result import Result  # type: ignore[import-not-found]
    from mann_bench.runner import comparisons, run_side_by_side  # type: ignore[import-not-found, no-redef]
    from mann_bench.suite import parse_suite  # type: ignore[import-not-found, no-redef]

    parse_result = Result.model_validate

SOURCE = Path(__file__).parent / "regression.toml"
PROCESSES = 2
PARTS = 4  # of a process's passes
NAMES = [
    *("lstm 1k", "ntm 1k", "ntm-checkpointed 1k", "dam 1k", "dnc 256"),
    *("sam 16k", "sdnc 16k", "sam infer 16k", "sdnc infer 16k", "sam torch 16k", "sam lsh 64k"),
]
TRAINED = [name for name in NAMES if "infer" not in name]  # only training keeps something for backward
FAST = ["sam 16k", "sdnc 16k", "sam lsh 64k"]  # held against the readable reference before they are timed
INDEXED = ["sam lsh 64k"]

Stored = dict[str, list[dict[str, Any]]]


def name_of(case: dict[str, Any]) -> str:
    """`sam infer 16k`: what tells a case of the suite from the others."""
    words = [case["model"] if case["variant"] == "plain" else f"{case['model']}-{case['variant']}"]
    words += [case[field] for field, usual in (("kernels", "auto"), ("index", "exact"), ("mode", "train")) if case[field] != usual]
    return " ".join([*words, f"{case['slots'] // 1024}k" if case["slots"] >= 1024 else str(case["slots"])])


def measure_all() -> Stored:
    """Results of every case by name, one for each process."""
    suite = parse_suite(SOURCE.read_text(), SOURCE.name)
    found: Stored = {}
    for _ in range(PROCESSES):
        for cases in comparisons(suite.cases):
            for result in run_side_by_side(cases, suite.budget, lambda text: None):
                name = name_of(result.case.model_dump())
                found.setdefault(name, []).append(result.model_dump(by_alias=True))
                if result.status != "ok":
                    print(f"{name}: {result.status}: {result.reason}", file=sys.stderr)
    if not any(result["status"] == "ok" for results in found.values() for result in results):
        raise RuntimeError(f"no case could be measured: {next(iter(found.values()))[0]['reason']}")
    return found


def times_ms(results: list[dict[str, Any]]) -> dict[str, Any]:
    """asv's form of samples, milliseconds a step; no samples where a process failed."""
    samples = []
    for result in map(parse_result, results):
        if result.time is None:
            return {"samples": [math.nan], "number": 1}
        passes = result.time.pass_ms.samples
        size = max(1, math.ceil(len(passes) / PARTS))
        samples += [statistics.median(passes[i : i + size]) / result.case.steps for i in range(0, len(passes), size)]
    return {"samples": samples, "number": 1}


def worst(results: list[dict[str, Any]], *path: str) -> float:
    """The largest of one number over the processes; NaN where one has none."""
    values = []
    for result in results:
        value: Any = result
        for name in path:
            value = value[name] if value else None
        values.append(math.nan if value is None else float(value))
    return math.nan if any(map(math.isnan, values)) else max(values)


class Tracked:
    """What all have in common: one measurement a commit."""

    param_names = ("case",)
    timeout = 1800.0

    def setup_cache(self) -> Stored:
        """Measure; asv keeps what is returned for all benchmarks below."""
        return measure_all()


class Steps(Tracked):
    """Time and peak memory of every case."""

    params = (NAMES,)

    def track_step_ms(self, stored: Stored, case: str) -> dict[str, Any]:
        """Milliseconds a step."""
        return times_ms(stored[case])

    def track_peak_bytes(self, stored: Stored, case: str) -> float:
        """Peak of allocated bytes: model, memory and pass."""
        return worst(stored[case], "memory", "peak_bytes")

    track_step_ms.unit = "ms"  # type: ignore[attr-defined]
    track_peak_bytes.unit = "bytes"  # type: ignore[attr-defined]


class Tape(Tracked):
    """What training keeps for backward."""

    params = (TRAINED,)

    def track_bytes_per_step(self, stored: Stored, case: str) -> float:
        """Bytes each further step keeps."""
        return worst(stored[case], "memory", "bytes_per_step")

    track_bytes_per_step.unit = "bytes"  # type: ignore[attr-defined]


class Error(Tracked):
    """How far the fast paths are from the readable reference."""

    params = (FAST,)

    def track_relative_error(self, stored: Stored, case: str) -> float:
        """Largest relative RMS over outputs and gradients."""
        return worst(stored[case], "check", "max_rel_err")

    track_relative_error.unit = "relative RMS"  # type: ignore[attr-defined]


class Missed(Tracked):
    """What an approximate index does not find."""

    params = (INDEXED,)

    def track_missed(self, stored: Stored, case: str) -> float:
        """1 - recall@K."""
        return 1 - worst(stored[case], "recall")

    track_missed.unit = "1 - recall"  # type: ignore[attr-defined]
