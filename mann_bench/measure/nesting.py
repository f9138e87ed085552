"""Which events of torch's profiler lie inside which, where a GPU's profiler has added its own.

It repeats each range of the host at the time of the range's kernels, and torch sorts these copies in among the events of the host: where a
copy ends, torch closes the host's ranges that began inside it, and what follows in them stands outside. So the copies are left out and the
events of each thread of the host are nested anew, by their times.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch._C._profiler import _ProfilerEvent

CUDA_CALL = re.compile("cu(da)?[A-Z]")  # cudaLaunchKernel, cuLaunchKernel; no kernel, such as one of cutlass, is named like this


@dataclass(eq=False)
class Event:
    """An event as torch's `_ProfilerEvent`, as far as a trace reads it, with other events inside."""

    name: str
    tag: object
    extra_fields: object
    start_time_ns: int
    end_time_ns: int
    duration_time_ns: int
    parent: "Event | None" = None
    children: list["Event"] = field(default_factory=list)


AnyEvent: TypeAlias = _ProfilerEvent | Event


def nested_by_time(roots: Sequence[_ProfilerEvent]) -> list[Event]:
    """The events below `roots` without a GPU's copies of ranges: those of a host thread nested by their times, kernels under their call."""
    made: list[Event] = []
    threads: dict[int, list[Event]] = defaultdict(list)
    for recorded, thread in _walk(roots, None):
        ours = _copied(recorded, None)
        ours.children = [_copied(child, ours) for child in recorded.children if is_kernel(child)]
        threads[thread].append(ours)
    for events in threads.values():
        open_events: list[Event] = []
        events.sort(key=lambda event: (event.start_time_ns, -event.end_time_ns))  # a parent, which comes first, stays first
        for event in events:
            while open_events and open_events[-1].end_time_ns <= event.start_time_ns:
                open_events.pop()
            if open_events:
                event.parent = open_events[-1]
                event.parent.children.append(event)
            else:
                made.append(event)
            open_events.append(event)
    return made


def _walk(events: Sequence[_ProfilerEvent], thread: int | None) -> Iterator[tuple[_ProfilerEvent, int]]:
    """All events of the host with their threads, parents first. A call of CUDA counts for the thread of the operation around it."""
    for event in events:
        if is_kernel(event):
            continue
        own = event.start_tid if thread is None or not is_from_gpu_profiler(event) else thread
        if not is_from_gpu_profiler(event) or is_cuda_call(event):
            yield event, own
        yield from _walk(event.children, thread if is_copy(event) else own)


def _copied(event: _ProfilerEvent, parent: Event | None) -> Event:
    return Event(event.name, event.tag, event.extra_fields, event.start_time_ns, event.end_time_ns, event.duration_time_ns, parent=parent)


def is_copy(event: _ProfilerEvent) -> bool:
    """Return whether a GPU's profiler made this event, and it is neither a call of CUDA nor a kernel."""
    return is_from_gpu_profiler(event) and not is_cuda_call(event) and not is_kernel(event)


def is_kernel(event: AnyEvent) -> bool:
    """Return whether this is a kernel, copy or fill on a GPU: an event under a call of the CUDA runtime or driver."""
    return is_from_gpu_profiler(event) and not is_cuda_call(event) and event.parent is not None and is_cuda_call(event.parent)


def is_cuda_call(event: AnyEvent) -> bool:
    """Return whether this is a call of the CUDA runtime or driver."""
    return is_from_gpu_profiler(event) and CUDA_CALL.match(str(event.name).strip()) is not None


def is_from_gpu_profiler(event: AnyEvent) -> bool:
    """Return whether a GPU's profiler made this event."""
    return "Kineto" in str(event.tag)
