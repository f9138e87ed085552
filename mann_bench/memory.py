"""Memory of one pass: every allocation and release of torch's CPU allocator, or the CUDA allocator's own statistics.

A pass of its own, so that it cannot disturb time. Peak, and what forward leaves for backward (the tape).
"""

import dataclasses
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mann_bench.result import Memory
from mann_bench.workload import Workload

_FORWARD = "mann_bench::forward"


@dataclass(frozen=True)
class PassBytes:
    """Above what was held before the pass: its peak, and what is held when forward ends, without the output."""

    peak_bytes: int
    tape_bytes: int


def held_tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor reachable through states, dataclasses, modules, mappings and sequences."""
    if isinstance(value, Tensor):
        yield value
    elif hasattr(value, "tensors"):
        yield from value.tensors()
    elif isinstance(value, dict):
        for part in value.values():
            yield from held_tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from held_tensors(part)
    elif dataclasses.is_dataclass(value):
        yield from held_tensors([getattr(value, f.name) for f in dataclasses.fields(value)])


def bytes_of(tensors: Iterator[Tensor]) -> int:
    """Bytes of the distinct storages behind the tensors."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def measure_pass(workload: Workload, steps: int) -> PassBytes:
    """One pass over the first `steps` steps."""
    measure = _measure_cuda if workload.case.device.startswith("cuda") else _measure_cpu
    measured = measure(workload, steps)
    workload.clear()
    return measured


def _measure_cpu(workload: Workload, steps: int) -> PassBytes:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profile:
        with torch.profiler.record_function(_FORWARD):
            y, state = workload.forward(steps)
        output_bytes = y.untyped_storage().nbytes()
        if workload.case.mode == "train":
            workload.backward(y)
        del y, state
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    events = profile.profiler.kineto_results.events()
    forward = next(event for event in events if event.name() == _FORWARD)
    forward_end_ns = forward.start_ns() + forward.duration_ns()
    held = peak = at_forward_end = 0
    for start_ns, size_bytes in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        if start_ns <= forward_end_ns:
            at_forward_end = held + size_bytes
        held += size_bytes
        peak = max(peak, held)
    return PassBytes(peak, max(0, at_forward_end - output_bytes))


def _measure_cuda(workload: Workload, steps: int) -> PassBytes:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    y, state = workload.forward(steps)
    tape = torch.cuda.memory_allocated() - before - y.untyped_storage().nbytes()
    if workload.case.mode == "train":
        workload.backward(y)
    del y, state
    torch.cuda.synchronize()
    return PassBytes(torch.cuda.max_memory_allocated() - before, max(0, tape))


def measure_memory(workload: Workload) -> Memory:
    """Peak of the case's pass, and bytes per step as the slope of the tape between T/2 and T steps, where constants cancel."""
    steps = workload.case.steps
    workload.run_pass()  # what is allocated once (gradients aside) is not this pass's
    workload.clear()
    half = measure_pass(workload, max(1, steps // 2))
    whole = measure_pass(workload, steps)
    slope = (whole.tape_bytes - half.tape_bytes) / (steps - steps // 2) if steps > 1 else float(whole.tape_bytes)
    parameters = bytes_of(iter(workload.parameters().values()))
    state = bytes_of(held_tensors(workload.state)) + getattr(workload.state, "outside_bytes", 0)  # a library's index holds no tensors
    training = workload.case.mode == "train"
    ledger = {
        "parameters": parameters,
        "state": state,
        "tape": whole.tape_bytes if training else 0,
        "gradients": parameters if training else 0,
    }
    ledger["workspace"] = max(0, whole.peak_bytes - ledger["tape"] - ledger["gradients"])
    return Memory(
        peak_bytes=parameters + state + whole.peak_bytes,
        start_bytes=parameters + state,
        tape_bytes=whole.tape_bytes,
        bytes_per_step=slope,
        state_bytes=state,
        ledger=ledger,
        rss_peak_bytes=peak_rss_bytes(),
    )


def peak_rss_bytes() -> int:
    """High-water mark of this process's resident memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
