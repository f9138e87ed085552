"""One pass as torch's profiler records it: time by step and phase, and each block of memory with the times of its allocation and release.

Forward work is named by the ranges it runs in (`mann_bench.models.phases`). Backward work runs in no ranges, but each node of the autograd
graph carries the sequence number of the forward operation that created it: the node counts for that operation's step and phase.
On a GPU the blocks come from the allocator's own history (`mann_bench.measure.allocations`).
"""

import bisect
import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch._C._profiler import RecordScope, _ExtraFields_Allocation, _ProfilerEvent
from torch.autograd import _enable_profiler
from torch.autograd.profiler import _run_on_profiler_start, profile, record_function

from mann_bench.measure.allocations import AllocatorHistory, Change, CudaHistory, allocations
from mann_bench.measure.nesting import AnyEvent, is_kernel, nested_by_time
from mann_bench.models.phases import PHASES, STEP

FORWARD, BACKWARD, END = "forward", "backward", "end of pass"
LAST = "end of recording"
REST = "rest"  # the phase of time inside a step or pass but in no phase: Python between operations, the autograd engine
NODE = "autograd::engine::evaluate_function: "
BEFORE, NEVER = -1, 2**63 - 1  # times of an allocation before the recording, and of a release after it


class Scope(NamedTuple):
    """What work belongs to: forward or backward, a step (None: no single one), a phase."""

    direction: str
    step: int | None
    phase: str


@dataclass
class Block:
    """One allocation on the device, with the times of its allocation (or BEFORE) and release (or NEVER)."""

    address: int
    size_bytes: int
    born_ns: int
    died_ns: int = NEVER

    def lives_at(self, when_ns: int) -> bool:
        """Return whether the block is allocated at that time."""
        return self.born_ns <= when_ns < self.died_ns


@dataclass
class ScopeTime:
    """Time in one scope, without the scopes inside it: on the host, and of the GPU kernels it launched. `count`: times it was entered."""

    host_ns: int = 0
    device_ns: int = 0
    count: int = 0


@dataclass
class Trace:
    """The content of a recording once it is over. Times are in ns since 1970.

    Attributes:
        totals: after each allocation and release, its time and the allocator's own total, counted from 0 at the start.
        marks: start and end of forward, of backward and of END.
        step_ends: by direction and step, when the step ended.
    """

    blocks: list[Block] = field(default_factory=list)
    totals: list[tuple[int, int]] = field(default_factory=list)
    scope_times: dict[Scope, ScopeTime] = field(default_factory=lambda: defaultdict(ScopeTime))
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)
    step_ends: dict[str, dict[int, int]] = field(default_factory=lambda: {FORWARD: {}, BACKWARD: {}})
    profiler: profile | None = None

    def after(self, name: str) -> int:
        """A time between the end of a range and the start of the next, for what is held there: the middle, or its end for the last."""
        end = self.marks[name][1]
        return (end + min((start for start, _ in self.marks.values() if start >= end), default=end)) // 2

    def export(self, path: Path) -> None:
        """Write a Chrome trace (chrome://tracing, Perfetto)."""
        assert self.profiler is not None
        self.profiler.export_chrome_trace(str(path))


class _RangesAndMemory(profile):
    """A profiler without operations, whose events take most of its memory and time."""

    def _start_trace(self) -> None:
        _run_on_profiler_start()
        _enable_profiler(self.config(create_trace_id=False), self.kineto_activities, {RecordScope.USER_SCOPE})  # type: ignore[call-arg]


@contextmanager
def recording(
    device: str,
    held: Mapping[int, int] | None = None,
    *,
    operations: bool = False,
    gpu_kernels: bool = False,
    history: AllocatorHistory | None = None,
) -> Iterator[Trace]:
    """Record what runs inside; the trace is filled when the block ends. Slows small operations several times over.

    Of a limit of this process it takes its share: a few kilobytes, and what an event takes for each allocation and release.

    Args:
        device: whose allocations are recorded.
        held: blocks allocated before, address to bytes.
        operations: record operations too, for the phases of backward and for `Trace.export`; takes three times the memory and time.
        gpu_kernels: record the kernels of a GPU too, for `ScopeTime.device_ns`. Allocations are recorded without them, and starting the
            GPU's own profiler costs seconds and slows what is timed later in the process.
        history: where the allocations of a GPU come from; by default from torch.

    Raises:
        RuntimeError: what ran inside has run torch's profiler, or recorded the history of its allocator on a GPU, itself.
    """
    cuda = device.startswith("cuda")
    gc.collect()  # garbage of earlier work would otherwise be released, and counted, inside
    trace = Trace([Block(address, size_bytes, BEFORE) for address, size_bytes in (held or {}).items()])
    profiler_class = profile if operations or gpu_kernels else _RangesAndMemory
    gpu_allocations = allocations(history or CudaHistory(device)) if cuda else nullcontext()
    profiler_of_pass = profiler_class(
        use_kineto=True,
        use_device="cuda" if cuda and gpu_kernels else None,
        profile_memory=not cuda or operations,  # of a GPU only for the Chrome trace
    )
    with profiler_of_pass as profiler, gpu_allocations as changes:
        yield trace
        with mark(LAST):
            pass
    trace.profiler = profiler
    assert profiler.kineto_results is not None
    roots: Sequence[_ProfilerEvent] = profiler.kineto_results.experimental_event_tree()
    if not any(_name(root) == LAST for root in roots):  # a second profiler takes the place of the first and ends it
        raise RuntimeError("the memory of a pass is recorded by torch's profiler, and the model runs that itself: only one can run")
    _Reader(trace, changes).read(nested_by_time(roots) if cuda and gpu_kernels else roots)


def mark(name: str) -> record_function:
    """A range whose start and end go into `Trace.marks`."""
    return record_function(name)


class _Reader:
    """Fill a trace from the profiler's tree of events, in two walks: one finds which forward operation made each node, one sums up.

    Args:
        changes: allocations and releases on a GPU, in their order; None: those of the CPU, from the events.
    """

    def __init__(self, trace: Trace, changes: list[Change] | None = None) -> None:
        self.trace, self.on_cpu = trace, changes is None
        self.origin: dict[int, tuple[int | None, str]] = {}  # sequence number -> step and phase of the forward operation
        self.changes = changes or []
        self.outside_ns = 0  # time of nodes that run in a thread of their own, as a GPU's do, not inside the range of backward

    def read(self, roots: Sequence[AnyEvent]) -> None:
        for root in roots:
            self._find_origins(root, None, REST)
        for root in roots:
            self._visit(root, None)
        self._pair_blocks()
        backward = Scope(BACKWARD, None, REST)
        if BACKWARD in self.trace.marks and backward in self.trace.scope_times:
            self.trace.scope_times[backward].host_ns -= self.outside_ns

    def _find_origins(self, event: AnyEvent, step: int | None, phase: str) -> None:
        name = _range(event)
        if name in PHASES:
            phase = name
        elif name.startswith(STEP):
            step = int(name.removeprefix(STEP))
            self.trace.step_ends[FORWARD][step] = event.end_time_ns
        elif name in (FORWARD, BACKWARD, END):
            self.trace.marks[name] = (event.start_time_ns, event.end_time_ns)
        elif name.startswith(NODE):
            step, phase = self.origin.get(_sequence_number(event), (None, REST))
        elif _sequence_number(event) >= 0:
            # Several operations may carry a number; the last of them is the one that made a node.
            self.origin[_sequence_number(event)] = (step, phase)
        for child in event.children:
            self._find_origins(child, step, phase)

    def _visit(self, event: AnyEvent, scope: Scope | None) -> None:
        if _name(event) == "[memory]":
            fields = event.extra_fields
            if self.on_cpu and isinstance(fields, _ExtraFields_Allocation) and fields.device.type == "cpu":
                self.changes.append(Change(event.start_time_ns, fields.ptr, fields.alloc_size, fields.total_allocated))
            return
        entered = self._entered(event, _range(event), scope)
        if entered is not None:
            times = self.trace.scope_times[entered]
            times.host_ns += event.duration_time_ns
            times.count += 1
            if scope is not None:
                self.trace.scope_times[scope].host_ns -= event.duration_time_ns
            elif _range(event).startswith(NODE):
                self.outside_ns += event.duration_time_ns
            scope = entered
        elif scope is not None and is_kernel(event):
            self.trace.scope_times[scope].device_ns += event.duration_time_ns
        for child in event.children:
            self._visit(child, scope)

    def _entered(self, event: AnyEvent, name: str, scope: Scope | None) -> Scope | None:
        """The scope that an event opens, or None if it belongs to the scope around it."""
        if name in (FORWARD, BACKWARD):
            return Scope(name, None, REST)
        if name.startswith(NODE):
            step, phase = self.origin.get(_sequence_number(event), (None, REST))
            if step is not None:
                ends = self.trace.step_ends[BACKWARD]
                ends[step] = max(ends.get(step, 0), event.end_time_ns)
            return Scope(BACKWARD, step, phase)
        if scope is None:
            return None
        if name.startswith(STEP):
            return Scope(scope.direction, int(name.removeprefix(STEP)), REST)
        if name in PHASES:
            return Scope(scope.direction, scope.step, name)
        return None

    def _pair_blocks(self) -> None:
        self.changes.sort()
        open_blocks = {block.address: block for block in self.trace.blocks}
        start_bytes = self.changes[0].total_bytes - self.changes[0].size_bytes if self.changes else 0
        for when_ns, address, size_bytes, total in self.changes:
            self.trace.totals.append((when_ns, total - start_bytes))
            if size_bytes > 0:
                block = open_blocks[address] = Block(address, size_bytes, when_ns)
                self.trace.blocks.append(block)
            elif address in open_blocks:
                open_blocks.pop(address).died_ns = when_ns


def held_at(blocks: list[Block], moments_ns: list[int]) -> list[int]:
    """Bytes of the blocks that are allocated at each of the times, which must be ascending."""
    change = [0] * (len(moments_ns) + 1)
    for block in blocks:
        change[bisect.bisect_left(moments_ns, block.born_ns)] += block.size_bytes
        change[bisect.bisect_left(moments_ns, block.died_ns)] -= block.size_bytes
    held, running = [], 0
    for difference in change[:-1]:
        running += difference
        held.append(running)
    return held


def _name(event: AnyEvent) -> str:
    return str(event.name).strip()


def _is_op(event: AnyEvent) -> bool:
    return hasattr(event.extra_fields, "sequence_number")


def _sequence_number(event: AnyEvent) -> int:
    """The number that an operation shares with its node in the autograd graph; negative if it has none."""
    return int(getattr(event.extra_fields, "sequence_number", -1))


def _range(event: AnyEvent) -> str:
    """The name of an operation or range on the host; empty for the copy of a range that a GPU's profiler adds around its kernels."""
    return _name(event) if _is_op(event) else ""
