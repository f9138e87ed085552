"""Memory of one pass, from all allocations and releases of torch's allocator, on a CPU as on CUDA.

It is measured in passes of its own, so that recording does not disturb time.
"""

import math
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor

from mann_bench.data.result import Memory
from mann_bench.data.units import format_bytes
from mann_bench.machine.devices import free_bytes
from mann_bench.measure.allocations import keep_apart
from mann_bench.measure.device import open_device
from mann_bench.measure.ledger import CAUSES, STATE_CAUSES, attribute, gradients, owners, storages
from mann_bench.measure.limit import beside_the_limit
from mann_bench.measure.trace import BACKWARD, BEFORE, END, FORWARD, NEVER, Block, Trace, held_at, mark, recording
from mann_bench.measure.workload import Workload

EVENT_BYTES, EVENT_BYTES_WITH_OPERATIONS = 2 * 2**10, 7 * 2**10  # of a recording, for each allocation and release in it
PAGE = 4096  # bytes
ROOM = 0.7  # part of the free memory that a recording may take
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182}  # 97.5% quantiles of Student's t by degrees of freedom
Forward = Callable[[], tuple[Tensor, object]]
W = TypeVar("W", bound=Workload)


class Slope(NamedTuple):
    """Slope of a fitted line in bytes per step, and its 95% interval; without an interval for fewer than three lengths."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PassMemory:
    """One recorded pass.

    Attributes:
        blocks: all blocks of memory, by cause.
        start_bytes: what was held before the pass.
        end_bytes: what is known to be held after it.
        hidden_bytes: part of both that no known object holds.
    """

    trace: Trace
    blocks: dict[str, list[Block]]
    start_bytes: int
    end_bytes: int
    hidden_bytes: int = 0

    @property
    def pass_bytes(self) -> int:
        """Peak of the allocator's own total above `start_bytes`."""
        return max([0, *(total for _, total in self.trace.totals)])

    @property
    def peak_bytes(self) -> int:
        """Peak of all that is held, `start_bytes` included."""
        return self.start_bytes + self.pass_bytes

    @property
    def tape_bytes(self) -> int:
        """Bytes saved for backward at the end of forward."""
        return sum(self.tape_sizes)

    @property
    def tape_sizes(self) -> list[int]:
        """Bytes of each block of the tape, in the order of their allocation."""
        forward_end = self.trace.after(FORWARD)
        blocks = [block for block in self.blocks["tape"] if block.born_ns != BEFORE and block.lives_at(forward_end)]
        return [block.size_bytes for block in sorted(blocks, key=lambda block: block.born_ns)]

    @property
    def grown_bytes(self) -> int:
        """Growth of the allocator's total beyond what is known to be held after the pass. If an equal pass ran before, it is a leak."""
        growth = self.trace.totals[-1][1] if self.trace.totals else 0
        return growth - (self.end_bytes - self.start_bytes)

    def ledger(self) -> dict[str, int]:
        """Bytes by cause at the time of the peak. They sum to `peak_bytes`: `unattributed` is the difference."""
        peak_ns = max(self.trace.totals, key=lambda entry: entry[1])[0] if self.trace.totals else 0
        held = {cause: held_at(self.blocks[cause], [peak_ns])[0] for cause in CAUSES}
        held["unattributed"] = self.peak_bytes - sum(held[cause] for cause in CAUSES if cause != "unattributed")
        return held


def build_recorded(device: str, build: Callable[[], W]) -> tuple[W, int]:
    """Build a workload; also returns the bytes that it holds outside its parameters, state and inputs, by the allocator's count."""
    with recording(device) as trace:
        workload = build()
    held_bytes = sum(block.size_bytes for block in trace.blocks if block.died_ns == NEVER)
    return workload, held_bytes - sum(sum(held.values()) for held in owners(workload).values())


def measure_pass(
    workload: Workload,
    steps: int | None = None,
    hidden_bytes: int = 0,
    forward: Forward | None = None,
    *,
    operations: bool = False,
    gpu_kernels: bool = False,
) -> PassMemory:
    """Record one pass. What the recording takes does not count for a limit of this process, so an equal pass must have run before.

    Args:
        steps: length of the pass; all steps by default.
        hidden_bytes: as `build_recorded` returns them.
        forward: run instead of the workload's own forward.
        operations: as for `recording`, like gpu_kernels.
    """
    before = owners(workload)
    held = {address: size_bytes for part in before.values() for address, size_bytes in part.items()}
    training = workload.case.mode == "train"
    recorded = recording(workload.case.device, held, operations=operations, gpu_kernels=gpu_kernels)
    with beside_the_limit(), recorded as trace:
        with mark(FORWARD):
            y, state = forward() if forward is not None else workload.forward(steps)
        keep_apart(workload.case.device)
        with mark(BACKWARD):
            if training:
                workload.backward(y)
        keep_apart(workload.case.device)
        with mark(END):
            after = {**owners(workload), "gradients": gradients(workload)}
            output = storages([y])
        del y, state
        workload.drop_results()
    workload.clear()
    blocks = attribute(trace, before, after, output, training=training)
    start_bytes, end_bytes = (sum(sum(part.values()) for part in held.values()) + hidden_bytes for held in (before, after))
    return PassMemory(trace, blocks, start_bytes, end_bytes, hidden_bytes)


def measure_memory(workload: Workload, hidden_bytes: int = 0) -> Memory:
    """Measure the peak of a pass and its ledger, and bytes per step as the slope of saved bytes over length, free of constants.

    A pass must have run before, so that one-time allocations do not count. `hidden_bytes` as `build_recorded` returns them.
    """
    workload.release()
    steps = workload.case.steps
    rss_peak_bytes = peak_rss_bytes()  # before recordings, which take memory of their own
    tapes = []
    for length in lengths(steps):
        measured = measure_pass(workload, length)
        check_room(measured, length, steps, EVENT_BYTES)
        tapes.append((length, measured.tape_sizes))
    whole = measure_pass(workload, steps, hidden_bytes)
    tapes.append((steps, whole.tape_sizes))
    rounded_bytes = hidden_by_rounding(tapes, lambda: measure_pass(workload, 1).tape_sizes)
    slope = fit_slope([(length, sum(sizes)) for length, sizes in tapes], rounded_bytes)
    outside = getattr(workload.state, "outside_bytes", 0)  # bytes of a library's index, which torch's allocator does not see
    state = sum(sum(owners(workload)[cause].values()) for cause in STATE_CAUSES) + outside
    ledger = whole.ledger()
    ledger["index"] += outside
    sensors = open_device(workload.case.device).sensors()
    return Memory(
        peak_bytes=whole.peak_bytes + outside,
        start_bytes=whole.start_bytes + outside,
        tape_bytes=whole.tape_bytes,
        bytes_per_step=slope.value,
        bytes_per_step_low=slope.low,
        bytes_per_step_high=slope.high,
        state_bytes=state,
        ledger=ledger,
        leaked_bytes=whole.grown_bytes,
        rss_peak_bytes=rss_peak_bytes,
        nvml_peak_bytes=sensors.process_bytes if sensors else None,
    )


def check_room(measured: PassMemory, length: int, steps: int, event_bytes: int) -> None:
    """Raise RuntimeError if recording a pass of `steps` would take most of the machine's memory, judged by a pass of `length`.

    Args:
        event_bytes: what the recording takes for each allocation and release.
    """
    needed_bytes, free = len(measured.trace.totals) * steps // length * event_bytes, free_bytes("cpu")
    if needed_bytes > ROOM * free:
        raise RuntimeError(
            f"to record the memory of a pass of {steps} steps takes {format_bytes(needed_bytes)} beside it, and {format_bytes(free)} are "
            "free; give fewer steps"
        )


def lengths(steps: int, points: int = 3) -> list[int]:
    """Up to `points` distinct lengths of a sequence, evenly spaced from T / points to T."""
    return sorted({math.ceil(steps * part / points) for part in range(1, points + 1)})


def hidden_by_rounding(tapes: Sequence[tuple[int, Sequence[int]]], of_one_step: Callable[[], Sequence[int]]) -> int:
    """Bytes of a tape that a library may have added to fill memory pages, so that its growth with T shows in leaps, or not at all.

    oneDNN's LSTM keeps what it saves of a sequence in one block, whose parts each begin on a page. Such a block is a multiple of a page at
    every length and not proportional to it. How many parts it has at most is seen in a pass of a single step. A model that loops over its
    steps saves more blocks in a longer pass, each as large as it asked for: there this is 0.

    Args:
        tapes: length T and the sizes of the tape's blocks; ascending.
        of_one_step: makes a pass of one step and returns its sizes.
    """
    (short, shorter), (long, longer) = tapes[0], tapes[-1]
    if len(shorter) != len(longer) or short == long:
        return 0
    pairs = enumerate(zip(shorter, longer, strict=True))
    padded = [number for number, (a, b) in pairs if a % PAGE == b % PAGE == 0 and a * long != b * short]
    if not padded:
        return 0
    single = of_one_step()
    return sum(single[number] for number in padded) if len(single) == len(longer) else sum(shorter[number] for number in padded)


def fit_slope(points: Sequence[tuple[int, int]], rounded_bytes: int = 0) -> Slope:
    """Fit bytes over steps by least squares; for a single length, divide bytes by steps.

    Args:
        rounded_bytes: by how much the bytes of a length may be too large (`hidden_by_rounding`); it widens the interval.
    """
    x, y = [length for length, _ in points], [size_bytes for _, size_bytes in points]
    count = len(x)
    if len(set(x)) == 1:
        return Slope(sum(y) / sum(x), None, None)
    middle, level = sum(x) / count, sum(y) / count
    spread = sum((value - middle) ** 2 for value in x)
    slope = sum((a - middle) * b for a, b in zip(x, y, strict=True)) / spread
    if len(set(x)) == 2:
        return Slope(slope, None, None)
    residual = sum((b - level - slope * (a - middle)) ** 2 for a, b in zip(x, y, strict=True))
    reach = STUDENT.get(count - 2, 3.0) * math.sqrt(residual / (count - 2) / spread)
    rounding = rounded_bytes / (max(x) - min(x))
    return Slope(slope, slope - reach - rounding, slope + reach + rounding)


def held_by_cause(measured: PassMemory, moments_ns: Sequence[int]) -> dict[str, list[int]]:
    """Bytes that each cause holds at each of the times, which must be ascending."""
    held = {cause: held_at(blocks, list(moments_ns)) for cause, blocks in measured.blocks.items()}
    held["unattributed"] = [size + measured.hidden_bytes for size in held["unattributed"]]
    return held


def peak_rss_bytes() -> int:
    """Peak of this process's resident memory. That of getrusage includes the peak of the process that it was forked from."""
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
