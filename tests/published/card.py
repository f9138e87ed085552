"""What was measured on the H100 beside the suite (`docs/results/gpu-h100-80gb/card/*.txt`), as the numbers of docs/cuda.md need it."""

import functools
import re
from collections.abc import Callable

from tests.published.results import GPU, MILLION, RESULTS

CARD = RESULTS / GPU / "card"
STEP = re.compile(r"^(\w+(?: \w+)*?)\s+N=\s*(\d+) B=(\d+)\s+T=(\d+)\s+([\d.]+) us/step(.*)$", re.MULTILINE)
PARTS = (  # of a step: what a row of the table says, and the clocks whose times it gives; "," parts cells, "+" sums
    ("search and update of the index", "f.search"),
    ("controller, forward", "f.controller"),
    ("controller, backward", "b.controller"),
    ("rollback", "b.rollback"),
    ("gradients of reads, of writes", "b.read,b.write"),
    ("write", "f.write"),
    ("addressing, read", "f.addressing+f.read"),
    ("on the wall, with the work around the two kernels", "wall"),
)
MEMORY_BYTES = 8 * MILLION * 32 * 4  # of a million slots of 32 numbers, B = 8


@functools.cache
def step_us(file: str, name: str, slots: int, batch: int, steps: int) -> dict[str, float]:
    """Microseconds of a step by the kernels' own clocks, as `f.search`; `wall` is the whole step.

    Args:
        name: of the line, as `sam lsh 0`.
    """
    text = (CARD / f"{file}.txt").read_text(encoding="utf-8")
    for found, *sizes, wall, rest in STEP.findall(text):
        if (found, *map(int, sizes)) == (name, slots, batch, steps):
            return {"wall": float(wall)} | {clock: float(us) for clock, us in re.findall(r"([fb]\.\w+)=([\d.]+)", rest)}
    raise ValueError(f"{file}.txt: expected a line {name} N={slots} B={batch} T={steps}, found none")


def product_ms(name: str) -> float:
    """Milliseconds of a line of dense-products.txt."""
    text = (CARD / "dense-products.txt").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^{re.escape(name)} +([\d.]+) ms$", text, re.MULTILINE)
    return float(found)


def copied_tb_s() -> float:
    """What a copy of the memory moves, in TB/s: it reads and writes all of it."""
    return 2 * MEMORY_BYTES / product_ms("copy") / 1e9


def scanned_tb_s() -> float:
    """What the search of all rows reads, in TB/s."""
    text = (CARD / "search-counters.txt").read_text(encoding="utf-8")
    (found,) = re.findall(r"Memory Throughput +Tbyte/s +([\d.]+)", text)
    return float(found)


def bound_ms(passes: int) -> float:
    """Milliseconds to move the memory so many times."""
    return passes * MEMORY_BYTES / copied_tb_s() / 1e9


def phases() -> str:
    """The table of a step's phases: SAM on its index, a million slots, B = 8, T = 100."""
    sides = [step_us("steps", f"sam lsh {cluster}", MILLION, 8, 100) for cluster in ("0", "auto")]

    def cell(side: dict[str, float], clocks: str) -> str:
        return ", ".join(f"{sum(side[clock] for clock in part.split('+')):.1f}" for part in clocks.split(","))

    rows = [
        ("", "one block an element", "cluster"),
        ("---",) * 3,
        *((text, *(cell(side, clocks) for side in sides)) for text, clocks in PARTS),
    ]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows).replace("|  |", "| |").replace("| --- | --- | --- |", "|---|---|---|")


def before_and_after(name: str, clock: str, slots: int = MILLION, steps: int = 100) -> list[object]:
    """Microseconds of a clock before the first look's changes, and after."""
    after = f"{name} 0" if name == "sam lsh" else name
    return [step_us("steps-before", name, slots, 8, steps)[clock], step_us("steps", after, slots, 8, steps)[clock]]


CARD_NUMBERS: dict[str, tuple[str, Callable[[], list[object]]]] = {  # as `NUMBERS`
    "card-bound": (
        "at the {:.1f} TB/s of a copy there, would take the NTM {:.1f} ms (the memory read and written forward; read, and its gradient "
        "read and written, backward) and a search of all rows {:.2f} ms",
        lambda: [copied_tb_s(), bound_ms(5), bound_ms(1)],
    ),
    "card-phases": ("\n{}", lambda: [phases()]),
    "card-batch": (
        "At B = 128 and 64k slots a step takes {:.1f} us, {:.1f} times as long as at B = 1 with a million",
        lambda: [
            large := step_us("steps", "sam lsh auto", 2**16, 128, 100)["wall"],
            large / step_us("steps", "sam lsh auto", MILLION, 1, 100)["wall"],
        ],
    ),
    "card-before": ("{:.1f} us a step", lambda: before_and_after("sam lsh", "wall")[:1]),
    "card-controller": ("the controller's forward fell from {:.1f} to {:.1f} us", lambda: before_and_after("sam lsh", "f.controller")),
    "card-scan": (
        "It reads {:.2f} TB/s, {:.0%} of what a copy on the card moves",
        lambda: [scanned_tb_s(), scanned_tb_s() / copied_tb_s()],
    ),
    "card-exact": (
        "the step with an exact search fell from {:.0f} to {:.0f} us, and from {:.0f} to {:.0f} us at 1,024 slots",
        lambda: [*before_and_after("sam exact", "wall", steps=10), *before_and_after("sam exact", "wall", 1024)],
    ),
    "card-search": ("{:.1f} to {:.1f} us", lambda: before_and_after("sam lsh", "f.search")),
    "card-ntm": ("The NTM took {:.0f} ms a step", lambda: [step_us("steps-before", "ntm", MILLION, 8, 10)["wall"] / 1e3]),
    "card-products": (
        "{:.1f} ms, against {:.1f} ms with the rows divided into 64 parts",
        lambda: [product_ms("weights @ M plain"), product_ms("weights @ M in 64")],
    ),
    "card-compiled": ("a step of it took {:.1f} ms", lambda: [product_ms("NTM compiled 1M B8 T4 pass") / 4]),
}
