"""The ledger of a model's pass compared with the allocator's own peak, on any device."""

import gc
from typing import NamedTuple

import torch

from mann_bench.data.case import Case
from mann_bench.measure.ledger import CAUSES, owners
from mann_bench.measure.memory import build_recorded, measure_pass
from mann_bench.measure.workload import ModelWorkload

# At N = 64k, the DNC at 1k: its link matrix alone would take 16 GiB at 64k.
LEDGER_MODELS = [*((name, 65536) for name in ("lstm", "ntm", "dam", "sam", "sdnc", "sam-torch", "sdnc-torch")), ("dnc", 1024)]


def check_ledger(model, slots, mode, device, residual):
    """Assert that the part without a known cause is below `residual` of the peak, and that each part of the model has its cause."""
    name, _, kernels = model.partition("-")
    case = Case(suite="s", model=name, slots=slots, steps=3, mode=mode, kernels=kernels or "auto", device=device)
    on_gpu = device.startswith("cuda")
    empty = counters(device) if on_gpu else None
    workload, hidden = build_recorded(device, lambda: ModelWorkload(case))
    if empty is not None:
        check_start(hidden + sum(sum(held.values()) for held in owners(workload).values()), empty, counters(device))
    workload.run_pass()
    workload.clear()
    before = counters(device) if on_gpu else None
    measured = measure_pass(workload, hidden_bytes=hidden)
    if before is not None:
        check_peak(measured, before, counters(device, collect=False))
    ledger, peak = measured.ledger(), measured.peak_bytes
    assert tuple(ledger) == CAUSES
    assert abs(ledger["unattributed"]) < residual * peak
    assert (ledger["tape"] > 0) == (mode == "train")
    if name != "lstm":
        assert ledger["memory"] >= slots * 32 * 4
        assert (ledger["link"] > 0) == (name in ("dnc", "sdnc"))
    if name in ("sam", "sdnc"):
        assert ledger["ring_and_usage"] >= slots * 4


class Counters(NamedTuple):
    """Bytes that a GPU's allocator counts itself, now and at their peak: what was asked for, and what it rounded that up to."""

    requested: int
    requested_peak: int
    allocated: int
    allocated_peak: int


def counters(device, collect=True):
    """Read the counters; what others hold on the GPU is in all of them. With `collect`, the peaks begin anew."""
    if collect:
        gc.collect()
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    stats = torch.cuda.memory_stats(device)
    requested, requested_peak = (stats.get(f"requested_bytes.all.{kind}", 0) for kind in ("current", "peak"))
    return Counters(requested, requested_peak, torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device))


def check_start(start_bytes, empty, built):
    """Assert that all is found that a workload holds before its passes."""
    assert abs(start_bytes - (built.requested - empty.requested)) <= 0.03 * start_bytes


def check_peak(measured, before, after):
    """Assert that the measured peak of a pass is the allocator's own, whose counters were read before and after.

    The allocator rounds up to 512 bytes a block, and leaves up to 1 MiB at the end of a block of more than 1 MiB.
    """
    assert abs(measured.pass_bytes - (after.requested_peak - before.requested)) <= 0.01 * measured.pass_bytes + 512
    peak_ns = max(measured.trace.totals, key=lambda entry: entry[1])[0]
    alive = [block for block in measured.trace.blocks if block.lives_at(peak_ns)]
    rounding = sum(512 if block.size_bytes <= 2**20 else 2**20 for block in alive)
    assert abs(measured.pass_bytes - (after.allocated_peak - before.allocated)) <= 0.03 * measured.peak_bytes + rounding
