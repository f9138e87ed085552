"""Numbers that are typed in docs/cuda.md: each is what the committed run of suite `gpu` gives."""

import functools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mann_bench.data.result import Measured
from mann_bench.data.store import RESULTS, load_records
from mann_bench.reports.analysis.ratios import Ratio, ratios
from mann_bench.reports.data.frame import load_frame

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "docs" / "results" / "gpu-h100-80gb"
PAGE = " ".join((ROOT / "docs" / "cuda.md").read_text().split())
MILLION = 2**20


@functools.cache
def frame() -> pd.DataFrame:
    return load_frame([RUN])


def case(model: str, variant: str = "plain", index: str = "exact", slots: int = MILLION, steps: int = 10) -> pd.Series:
    rows = frame()
    wanted = {"model": model, "variant": variant, "index": index, "slots": slots, "steps": steps}
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    (found,) = (row for _, row in rows.iterrows())
    return found


def ms(model: str, **fields: object) -> float:
    return float(case(model, **fields)["step_ms_median"])  # type: ignore[arg-type]


def speedup(twin: str, index: str) -> Ratio:
    """Of SAM replayed from a graph, at a million slots."""
    own = case("sam", "graph", index)["case_id"]
    return next(ratio for ratio in ratios(frame()) if ratio.subject_case == own and ratio.twin == twin)


def with_interval(ratio: Ratio) -> list[float]:
    return [ratio.speedup, ratio.speedup_low, ratio.speedup_high]


NUMBERS: list[tuple[str, Callable[[], list[float]]]] = [
    ("The NTM takes {:.1f} ms a step, {:.1f} replayed from a graph", lambda: [ms("ntm"), ms("ntm", variant="graph")]),
    (
        "replayed from a graph takes {:.3f} ms: {:.0f} times [{:.0f}, {:.0f}] and {:.0f} times [{:.0f}, {:.0f}] as fast",
        lambda: [
            ms("sam", variant="graph", index="lsh"),
            *with_interval(speedup("ntm", "lsh")),
            *with_interval(speedup("ntm-graph", "lsh")),
        ],
    ),
    (
        "With an exact search SAM takes {:.3f} ms, {:.0f} and {:.0f} times as fast",
        lambda: [ms("sam", variant="graph"), speedup("ntm", "exact").speedup, speedup("ntm-graph", "exact").speedup],
    ),
    ("Not replayed SAM takes {:.3f} ms on the index", lambda: [ms("sam", index="lsh")]),
    (
        "SAM on its index takes {:.3f} ms a step at a million slots and {:.3f} at 64k",
        lambda: [ms("sam", index="lsh", steps=100, slots=slots) for slots in (MILLION, 2**16)],
    ),
    (
        "{:.3f} and {:.2f} ms a step from graphs, {:.1f} times; {:.3f} and {:.2f} ms without, {:.0f} times",
        lambda: [
            number
            for variant in ("graph", "plain")
            for sdnc, dnc in [(ms("sdnc", variant=variant, slots=2048), ms("dnc", variant=variant, slots=2048))]
            for number in (sdnc, dnc, dnc / sdnc)
        ],
    ),
    (
        "The NTM keeps {:.2f} GB a step for backward, SAM {:.0f} kB on the index and {:.0f} kB with an exact search",
        lambda: [
            case("ntm")["bytes_per_step"] / 1e9,
            case("sam", index="lsh")["bytes_per_step"] / 1e3,
            case("sam")["bytes_per_step"] / 1e3,
        ],
    ),
    ("{:.0f} of the 58 cases of suite `gpu`", lambda: [len(frame())]),
]


@pytest.mark.parametrize(("text", "compute"), NUMBERS, ids=[text[:40] for text, _ in NUMBERS])
def test_a_number_on_the_page_is_what_the_results_give(text, compute):
    assert text.format(*compute()) in PAGE


def test_the_ledger_explains_every_byte_and_nothing_leaks():
    memories = [record.memory for record in load_records(RUN, RESULTS) if isinstance(record, Measured)]
    assert len(memories) == len(frame())
    assert {memory.ledger["unattributed"] for memory in memories} == {memory.leaked_bytes for memory in memories} == {0}


@pytest.mark.parametrize(
    ("file", "start", "phases"),
    [
        ("steps.txt", "sam lsh auto   N=  1048576 B=8   T=100", {"f.search": "24.3", "f.controller": "6.2", "b.controller": "4.6"}),
        ("steps.txt", "sam lsh 0      N=  1048576 B=8   T=100", {"f.search": "24.8", "f.controller": "13.4", "b.controller": "8.2"}),
        ("steps-before.txt", "sam lsh        N=  1048576 B=8   T=100", {"f.search": "30.6", "f.controller": "19.2"}),
    ],
)
def test_a_time_of_a_phase_is_what_the_card_gave(file, start, phases):
    (line,) = (text for text in (RUN / "card" / file).read_text().splitlines() if text.startswith(start))
    assert phases.items() <= dict(word.split("=") for word in line.split() if word[:2] in ("f.", "b.")).items()
    assert line.split(" us/step")[0].split()[-1] in PAGE  # on the wall
