"""Does measuring work here? Ceilings of this machine, and planted faults that must be found: a 3% slowdown, an 8 MiB leak."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.data.units import format_bytes
from mann_bench.doctor.examine import Finding
from mann_bench.measure.device import Cpu, Device
from mann_bench.measure.memory import measure_pass
from mann_bench.measure.timing import median_interval, sample
from mann_bench.measure.workload import Workload

ROUNDS = 40  # turns of a comparison, doubled up to three times on a machine that needs it
SAMPLES_S = 0.03  # a case and turn
PLANTED = 0.03
LEAK_BYTES = 8 * 2**20
OVERHEAD = 0.02
COPY_BYTES = 2**28
MATRIX = 1024
Pass = Callable[[], None]


class Ratio(NamedTuple):
    """How many times as long the second takes as the first, with the 95% interval over `turns` turns."""

    value: float
    low: float
    high: float
    turns: int

    @property
    def half_width(self) -> float:
        """The smallest difference from 1 that this comparison can tell from none."""
        return (self.high - self.low) / 2


def selftest() -> list[Finding]:
    """All findings; state "failed" for a planted fault that was missed or a ceiling that could not be measured."""
    torch.set_num_threads(1)
    device = Cpu()
    return [*ceilings(device), *planted_slowdown(device), planted_leak(), overhead(device)]


def ceilings(device: Device, copy_bytes: int = COPY_BYTES, matrix: int = MATRIX) -> list[Finding]:
    """Bytes a second of copies and operations a second of a matrix product, one thread: what no kernel here can exceed."""
    source, target = torch.ones(copy_bytes // 4), torch.empty(copy_bytes // 4)
    a, b, c = (torch.ones(matrix, matrix) for _ in range(3))
    copies = sample(device, lambda: void(target.copy_(source)), lambda: None, 1.0, 0.02).wall_ms
    products = sample(device, lambda: void(torch.mm(a, b, out=c)), lambda: None, 1.0, 0.02).wall_ms
    return [
        Finding("copy", "ok", _rate(2 * copy_bytes, copies, "GB/s read and written") + f", copies of {format_bytes(copy_bytes)}"),
        Finding("matrix product", "ok", _rate(2 * matrix**3, products, "GFLOP/s") + f", float32, {matrix} x {matrix}"),
    ]


def planted_slowdown(device: Device, work: Callable[[int], Pass] | None = None, rounds: int = ROUNDS) -> list[Finding]:
    """The same work twice must compare as the same, and 3% more of it as slower; the smallest change that could be seen."""
    make = work or _products
    same = in_turn(device, make(100), make(100), rounds)
    slower = in_turn(device, make(100), make(round(100 * (1 + PLANTED))), rounds)
    alike = same.low <= 1 <= same.high or abs(same.value - 1) < PLANTED / 3
    found = slower.low > 1
    of_same, of_slower = (f"{(r.value - 1) * 100:+.1f}% [{(r.low - 1) * 100:+.1f}, {(r.high - 1) * 100:+.1f}]" for r in (same, slower))
    remedy = "; the machine is too busy: stop what else runs, or expect to see larger changes only"
    turns = f"{same.turns} turns of {SAMPLES_S * 1e3:.0f} ms on one core"
    return [
        Finding("same work", "ok" if alike else "failed", of_same + ("" if alike else remedy)),
        Finding("3% more work", "ok" if found else "failed", of_slower + ("" if found else remedy)),
        Finding("smallest change", "ok", f"{same.half_width:.1%} can be seen in {turns}"),
    ]


def planted_leak() -> Finding:
    """A pass that keeps 8 MiB must be told from one that does not."""
    clean, leaky = (_grown(_Passes(leak_bytes)) for leak_bytes in (0, LEAK_BYTES))
    found = clean == 0 and leaky == LEAK_BYTES
    said = f"{format_bytes(leaky)} found where {format_bytes(LEAK_BYTES)} leak, {format_bytes(clean)} where nothing does"
    return Finding("8 MiB leak", "ok" if found else "failed", said)


def overhead(device: Device, rounds: int = ROUNDS) -> Finding:
    """What the timing pass takes beyond a bare loop over the same work, timed in turn; memory is measured in a pass of its own."""
    work = _products(20)
    ratios = []
    for number in range(rounds):
        taken: dict[bool, float] = {}
        for measured in (True, False) if number % 2 else (False, True):
            began = device.clock()
            if measured:
                passes = len(sample(device, work, lambda: None, SAMPLES_S, 0.0).passes)
            else:
                passes = 0
                while device.clock() - began < SAMPLES_S:
                    work()
                    passes += 1
            taken[measured] = (device.clock() - began) / passes
        ratios.append(taken[True] / taken[False])
    ratio = Ratio(*median_interval(ratios), rounds)
    said = f"{(ratio.value - 1) * 100:+.2f}% [{(ratio.low - 1) * 100:+.2f}, {(ratio.high - 1) * 100:+.2f}] over a bare loop"
    return Finding("timing overhead", "ok" if ratio.low - 1 < OVERHEAD else "failed", f"{said}; memory is measured in a pass of its own")


def in_turn(device: Device, first: Pass, second: Pass, rounds: int) -> Ratio:
    """Both timed in turn, A B B A; the ratio of their medians in each turn, so that drift between turns cancels.

    `rounds` turns, and up to eight times as many until the interval is narrow enough for the planted change.
    """
    for one_pass in (first, second):
        device.time(one_pass)
    ratios: list[float] = []
    while True:
        number = len(ratios)
        order = (first, second) if number % 2 == 0 else (second, first)
        medians = {one: statistics.median(sample(device, one, lambda: None, SAMPLES_S, 0.0).wall_ms) for one in order}
        ratios.append(medians[second] / medians[first])
        ratio = Ratio(*median_interval(ratios), len(ratios))
        if len(ratios) in (rounds, 2 * rounds, 4 * rounds) and ratio.half_width < PLANTED / 2:
            return ratio
        if len(ratios) >= 8 * rounds:
            return ratio


def void(_: Any) -> None:
    """Drop a result."""


def _products(count: int) -> Pass:
    """Work in proportion to `count`, some ten microseconds each."""
    a = torch.ones(96, 96)
    out = torch.empty_like(a)

    def one_pass() -> None:
        for _ in range(count):
            torch.mm(a, a, out=out)

    return one_pass


def _rate(amount: int, times_ms: list[float], unit: str) -> str:
    median, low, high = (amount / ms / 1e6 for ms in median_interval(times_ms))
    return f"{median:.3g} {unit} [{high:.3g}, {low:.3g}]"


class _Passes(Workload):
    """Needs 1 MiB for a moment and leaves `leak_bytes` behind."""

    def __init__(self, leak_bytes: int) -> None:
        super().__init__(Case(suite="selftest", model="leak", slots=1, mode="infer"))
        self.leak_bytes, self.kept = leak_bytes, list[Tensor]()

    def forward(self, steps: int | None = None) -> tuple[Tensor, None]:
        """One pass."""
        if self.leak_bytes:
            self.kept.append(torch.ones(self.leak_bytes // 4))
        return torch.ones(2**18).sum(), None


def _grown(workload: Workload) -> int:
    measure_pass(workload)
    return measure_pass(workload).grown_bytes
