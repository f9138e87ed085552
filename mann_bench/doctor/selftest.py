"""Check that measuring works on this machine: measure its ceilings, and plant faults that must be found (a 3% slowdown, an 8 MiB leak)."""

import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.data.units import format_bytes
from mann_bench.doctor.examine import Finding
from mann_bench.measure.device import Cpu, Device
from mann_bench.measure.memory import measure_pass
from mann_bench.measure.samples import FEWEST, STEADY, median_interval
from mann_bench.measure.timing import sample
from mann_bench.measure.workload import Workload

ROUNDS = 40  # of a comparison; doubled up to three times while its interval is too wide
SAMPLES_S = 0.03  # time of samples of each side in a round
BUSY = "; the machine is too busy: stop what else runs, or expect to see larger changes only"
PLANTED = 0.03  # relative slowdown
LEAK_BYTES = 8 * 2**20
OVERHEAD = 0.02  # relative time that timing may add
COPY_BYTES = 2**28
MATRIX = 1024
Pass = Callable[[], None]


class Ratio(NamedTuple):
    """Time of the second over time of the first, with its 95% interval over the rounds."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def half_width(self) -> float:
        """The smallest difference from 1 that this comparison can detect."""
        return (self.high - self.low) / 2


def selftest() -> list[Finding]:
    """Run all checks; state "failed" marks a planted fault that was missed, "noise" a result whose interval is too wide to say."""
    torch.set_num_threads(1)
    device = Cpu()
    with silent_libraries():
        return [*ceilings(device), *planted_slowdown(device), planted_leak(), overhead(device)]


def ceilings(device: Device, copy_bytes: int = COPY_BYTES, matrix: int = MATRIX) -> list[Finding]:
    """Measure copy bandwidth and matrix product rate of one thread, which no kernel here can exceed."""
    source, target = torch.ones(copy_bytes // 4), torch.empty(copy_bytes // 4)
    a, b, c = (torch.ones(matrix, matrix) for _ in range(3))
    copies = sample(device, lambda: void(target.copy_(source)), lambda: None, 1.0, 0.02).wall_ms
    products = sample(device, lambda: void(torch.mm(a, b, out=c)), lambda: None, 1.0, 0.02).wall_ms
    return [
        _rate("copy", 2 * copy_bytes, copies, "GB/s read and written", f", copies of {format_bytes(copy_bytes)}"),
        _rate("matrix product", 2 * matrix**3, products, "GFLOP/s", f", float32, {matrix} x {matrix}"),
    ]


def planted_slowdown(device: Device, work: Callable[[int], Pass] | None = None, rounds: int = ROUNDS) -> list[Finding]:
    """Compare equal work, which must be found the same, and 3% more work, which must be found slower."""
    make = work or _products
    same = in_turn(device, make(100), make(100), rounds)
    slower = in_turn(device, make(100), make(round(100 * (1 + PLANTED))), rounds)
    wide = same.half_width > PLANTED / 2
    same_state = "noise" if wide else "ok" if same.low <= 1 <= same.high or abs(same.value - 1) < PLANTED / 3 else "failed"
    slower_ok = slower.low > 1
    same_text, slower_text = (f"{(r.value - 1) * 100:+.1f}% [{(r.low - 1) * 100:+.1f}, {(r.high - 1) * 100:+.1f}]" for r in (same, slower))
    effort = f"{same.rounds} rounds of {SAMPLES_S * 1e3:.0f} ms on one core"
    smallest = f"{same.half_width:.1%} can be detected in {effort}"
    return [
        Finding("same work", same_state, same_text + ("" if same_state == "ok" else BUSY)),
        Finding("3% more work", "ok" if slower_ok else "failed", slower_text + ("" if slower_ok else BUSY)),
        Finding("smallest change", "noise" if wide else "ok", smallest + (BUSY if wide else "")),
    ]


def planted_leak() -> Finding:
    """Measure a pass that leaks 8 MiB and one that leaks nothing."""
    clean, leaky = (_leaked_bytes(_Leaking(leak_bytes)) for leak_bytes in (0, LEAK_BYTES))
    detail = f"{format_bytes(leaky)} found where {format_bytes(LEAK_BYTES)} leak, {format_bytes(clean)} where nothing does"
    return Finding("8 MiB leak", "ok" if clean == 0 and leaky == LEAK_BYTES else "failed", detail)


def overhead(device: Device, rounds: int = ROUNDS) -> Finding:
    """Compare `sample` with a bare loop over the same work, in turn: the time that timing itself adds."""
    work = _products(20)
    ratios = []
    for number in range(rounds):
        pass_s: dict[bool, float] = {}
        for measured in (True, False) if number % 2 else (False, True):
            began = device.clock()
            if measured:
                passes = len(sample(device, work, lambda: None, SAMPLES_S, 0.0).passes)
            else:
                passes = 0
                while device.clock() - began < SAMPLES_S:
                    work()
                    passes += 1
            pass_s[measured] = (device.clock() - began) / passes
        ratios.append(pass_s[True] / pass_s[False])
    ratio = Ratio(*median_interval(ratios), rounds)
    detail = f"{(ratio.value - 1) * 100:+.2f}% [{(ratio.low - 1) * 100:+.2f}, {(ratio.high - 1) * 100:+.2f}] over a bare loop"
    state = "failed" if ratio.low - 1 >= OVERHEAD else "noise" if ratio.high - 1 >= OVERHEAD + PLANTED / 2 else "ok"
    return Finding("timing overhead", state, f"{detail}; memory is measured in a pass of its own" + ("" if state == "ok" else BUSY))


def in_turn(device: Device, first: Pass, second: Pass, rounds: int) -> Ratio:
    """Time both in turn, A B B A, and take the ratio of their medians in each round, so that drift between rounds cancels.

    Args:
        rounds: how many at least; up to eight times as many until the interval is narrow enough for the planted slowdown.
    """
    for one_pass in (first, second):
        device.time(one_pass)
    ratios: list[float] = []
    while True:
        number = len(ratios)
        order = (first, second) if number % 2 == 0 else (second, first)
        medians = {work: statistics.median(sample(device, work, lambda: None, SAMPLES_S, 0.0).wall_ms) for work in order}
        ratios.append(medians[second] / medians[first])
        ratio = Ratio(*median_interval(ratios), len(ratios))
        if len(ratios) in (rounds, 2 * rounds, 4 * rounds) and ratio.half_width < PLANTED / 2:
            return ratio
        if len(ratios) >= 8 * rounds:
            return ratio


def void(_: object) -> None:
    """Discard a result."""


def _products(count: int) -> Pass:
    """`count` small matrix products, of some ten microseconds each."""
    a = torch.ones(96, 96)
    out = torch.empty_like(a)

    def one_pass() -> None:
        for _ in range(count):
            torch.mm(a, a, out=out)

    return one_pass


def _rate(part: str, amount: int, times_ms: list[float], unit: str, of_what: str) -> Finding:
    median, low, high = (amount / ms / 1e6 for ms in median_interval(times_ms))
    noise = len(times_ms) < FEWEST or low - high > 2 * STEADY * median
    samples = f", from {len(times_ms)} samples" if len(times_ms) < FEWEST else ""
    detail = f"{median:.3g} {unit} [{high:.3g}, {low:.3g}]{of_what}{samples}"
    return Finding(part, "noise" if noise else "ok", detail + (BUSY if noise else ""))


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Drop what libraries of C++ write on the standard error of this process; Kineto notes each start of a recording there."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _Leaking(Workload):
    """Passes that allocate 1 MiB for a moment and leak `leak_bytes`."""

    def __init__(self, leak_bytes: int) -> None:
        super().__init__(Case(suite="selftest", model="leak", slots=1, mode="infer"))
        self.leak_bytes, self.kept = leak_bytes, list[Tensor]()

    def forward(self, steps: int | None = None) -> tuple[Tensor, None]:
        if self.leak_bytes:
            self.kept.append(torch.ones(self.leak_bytes // 4))
        return torch.ones(2**18).sum(), None


def _leaked_bytes(workload: Workload) -> int:
    measure_pass(workload)
    return measure_pass(workload).grown_bytes
