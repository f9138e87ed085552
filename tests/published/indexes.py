"""What the run of suite `index` gives, as published numbers need it."""

from collections.abc import Callable
from statistics import median

import pandas as pd

from tests.published.results import MILLION, case, step_ms

RUN = "index"
SIZES = (2**16, MILLION)


def query(index: str, slots: int, reads: int) -> pd.Series:
    """The case of an index whose queries are near stored rows in random directions."""
    return case(RUN, model="index:query", index=index, slots=slots, reads=reads, heads=4, batch=1, threads=1)


def recall(index: str, slots: int, reads: int) -> float:
    """Share of the K nearest rows that a query finds."""
    return float(query(index, slots, reads)["recall"])


def query_ms(index: str, slots: int, reads: int) -> float:
    """Median time of the four queries of a step."""
    return float(query(index, slots, reads)["step_ms_median"])


def recall_per_time(slots: int) -> float:
    """Recall@1 a microsecond of `lsh`, as a multiple of faiss IVF's."""
    own, other = (recall(index, slots, 1) / query_ms(index, slots, 1) for index in ("lsh", "faiss-ivf"))
    return own / other


def update_share(slots: int) -> float:
    """Time of an update of `lsh`, as a part of faiss IVF's."""
    own, other = (step_ms(RUN, model="index:update", index=index, slots=slots, mode="infer") for index in ("lsh", "faiss-ivf"))
    return own / other


def crowded(index: str) -> tuple[float, float]:
    """Recall of the four nearest of a million rows that crowd together, and the time of four queries."""
    found = case(RUN, model="index:crowded", index=index, slots=MILLION)
    return float(found["recall"]), float(found["step_ms_median"])


def build_ms(index: str, slots: int) -> float:
    """Median time of building an index."""
    return step_ms(RUN, model="index:build", index=index, slots=slots)


def scan_over_bounds(heads: int, batch: int) -> float:
    """Time of a training step of SAM that reads all of a million rows, as a multiple of one that reads their 8-bit copies."""
    scan, bounds = (
        step_ms(RUN, model="sam", index=index, slots=MILLION, heads=heads, batch=batch, threads=1) for index in ("exact-scan", "exact")
    )
    return scan / bounds


INDEX_NUMBERS: dict[str, tuple[str, Callable[[], list[object]]]] = {
    "forest": (
        "recall@1 {:.2f} and {:.2f} against {:.2f} and {:.2f}, recall@4 {:.2f} and {:.2f} against {:.2f} and {:.2f}, "
        "in {:.0%} of its query time",
        lambda: [
            *(recall(index, slots, reads) for reads in (1, 4) for index in ("lsh", "kd-forest") for slots in SIZES),
            median(query_ms("lsh", slots, reads) / query_ms("kd-forest", slots, reads) for slots in SIZES for reads in (1, 4)),
        ],
    ),
    "lsh-95": ("`lsh-95` finds {:.2f} and {:.2f}", lambda: [recall("lsh-95", slots, 1) for slots in SIZES]),
    "ivf": (
        "Against faiss IVF: {:.1f} and {:.0f} times its recall@1 a microsecond, an update in {:.2f} and {:.2f} of its time",
        lambda: [*map(recall_per_time, SIZES), *map(update_share, SIZES)],
    ),
    "lsh-four": (
        "`lsh-four` finds {:.2f} and {:.2f} of the four nearest rows in {:.2f} and {:.2f} ms a step of four queries, faiss IVF with 96 "
        "lists {:.2f} and {:.2f} in {:.2f} and {:.2f} ms",
        lambda: [found(index, slots, 4) for index in ("lsh-four", "faiss-ivf-96") for found in (recall, query_ms) for slots in SIZES],
    ),
    "crowded": (
        "`lsh-four` finds {:.2f} in {:.2f} ms, `lsh-four-wide` {:.2f} in {:.2f} ms, faiss IVF {:.2f} in {:.2f} ms",
        lambda: [number for index in ("lsh-four", "lsh-four-wide", "faiss-ivf") for number in crowded(index)],
    ),
    "hnsw": (
        "faiss HNSW at 64k words: {:.2f} of the four nearest in {:.2f} ms, built in {:.1f} s (`lsh-four` in {:.2f} s)",
        lambda: [
            recall("faiss-hnsw", SIZES[0], 4),
            query_ms("faiss-hnsw", SIZES[0], 4),
            *(build_ms(index, SIZES[0]) / 1e3 for index in ("faiss-hnsw", "lsh-four")),
        ],
    ),
    "bounds": (
        "{:.1f} and {:.1f} times as fast as by a scan of all rows at one head and four, {:.1f} and {:.1f} times at batch 8",
        lambda: [scan_over_bounds(heads, batch) for batch in (1, 8) for heads in (1, 4)],
    ),
}
