"""The ledger of a model's pass compared with the allocator's own peak, on any device."""

from mann_bench.data.case import Case
from mann_bench.measure.ledger import CAUSES
from mann_bench.measure.memory import build_recorded, measure_pass
from mann_bench.measure.workload import ModelWorkload

# At N = 64k, the DNC at 1k: its link matrix alone would take 16 GiB at 64k.
LEDGER_MODELS = [*((name, 65536) for name in ("lstm", "ntm", "dam", "sam", "sdnc", "sam-torch", "sdnc-torch")), ("dnc", 1024)]


def check_ledger(model, slots, mode, device, residual):
    """Assert that the part without a known cause is below `residual` of the peak, and that each part of the model has its cause."""
    name, _, kernels = model.partition("-")
    case = Case(suite="s", model=name, slots=slots, steps=3, mode=mode, kernels=kernels or "auto", device=device)
    workload, hidden = build_recorded(device, lambda: ModelWorkload(case))
    workload.run_pass()
    workload.clear()
    measured = measure_pass(workload, hidden_bytes=hidden)
    ledger, peak = measured.ledger(), measured.peak_bytes
    assert tuple(ledger) == CAUSES
    assert abs(ledger["unattributed"]) < residual * peak
    assert (ledger["tape"] > 0) == (mode == "train")
    if name != "lstm":
        assert ledger["memory"] >= slots * 32 * 4
        assert (ledger["link"] > 0) == (name in ("dnc", "sdnc"))
    if name in ("sam", "sdnc"):
        assert ledger["ring_and_usage"] >= slots * 4
