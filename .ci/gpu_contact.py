"""First numbers from a GPU, without the harness, so that they come back even if all else fails.

    python .ci/gpu_contact.py            on cuda:0
    python .ci/gpu_contact.py cpu        a trial without a GPU, at small sizes
    python .ci/gpu_contact.py cuda:0 clusters    one block an element against a cluster of blocks, in turn
    python .ci/gpu_contact.py cuda:0 passes      a few passes and nothing else, for a profiler

A line a model: microseconds a step on the wall and on the host, peak memory, and the phases inside a native pass by the kernels' own clocks
(`f.` forward, `b.` backward). The last lines say what the profiler reports of a GPU's memory and ranges.
"""

import gc
import os
import statistics
import sys
import time
from typing import Any

import torch
from torch.autograd.profiler import profile, record_function

from mann_bench.kernels.native.clocks import clocked
from mann_bench.kernels.sequence import cluster
from mann_bench.models import NTM, SAM, SDNC

DEVICE = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda:0")
ON_GPU = DEVICE.type == "cuda"
SIZES: dict[str, Any] = {"input_size": 10, "output_size": 8, "hidden": 100, "word_size": 32, "heads": 4}
SLOTS = 2**20 if ON_GPU else 2**12
WARM_UP_PASSES = 3


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if ON_GPU:
        torch.cuda.synchronize()


def measure(name: str, model: Any, batch: int, steps: int, passes: int = 12) -> str:
    """Time training passes of a model; the line to print."""
    model = model.to(DEVICE)
    state, x = model.initial_state(batch, fill="full"), torch.randn(steps, batch, SIZES["input_size"], device=DEVICE)

    def train() -> None:
        y, _ = model(x, state)
        y.sum().backward()
        model.zero_grad(set_to_none=True)

    for _ in range(WARM_UP_PASSES):
        train()
    wall_s, host_s = [], []
    for _ in range(passes):
        synchronize()
        began = time.perf_counter()
        train()
        issued = time.perf_counter()
        synchronize()
        wall_s.append(time.perf_counter() - began)
        host_s.append(issued - began)
    wall_us, host_us = (statistics.median(times) / steps * 1e6 for times in (wall_s, host_s))
    line = f"{name:14} N={model.slots:>9} B={batch:<3} T={steps:<3} {wall_us:9.1f} us/step  host {host_us:7.1f}"
    if ON_GPU:
        line += f"  peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"
    if getattr(model, "backend", {}).get("kernels") == "native":
        with clocked() as clocks:
            train()
            synchronize()
        processors = torch.cuda.get_device_properties(DEVICE).multi_processor_count if ON_GPU else torch.get_num_threads()
        spent = sorted(clocks.spent_ns(processors).items(), key=lambda entry: -entry[1])
        line += "  " + " ".join(f"{direction[0]}.{phase}={ns / steps / 1e3:.1f}" for (direction, phase), ns in spent)
    return line


def report(name: str, kind: Any, batch: int, steps: int, slots: int = SLOTS, passes: int = 12, **options: Any) -> None:
    """Measure a model and print the line, or what went wrong: the next one is measured all the same."""
    try:
        print(measure(name, kind(slots=slots, **SIZES, **options), batch, steps, passes), flush=True)
    except Exception as error:  # whatever fails here is what this program is to find out
        print(f"{name} N={slots} B={batch} T={steps}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    gc.collect()
    if ON_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def probe_profiler(use_device: str | None) -> None:
    """Print how the profiler reports allocations and ranges: the memory ledger relies on it (`mann_bench/measure/trace.py`)."""
    with profile(use_kineto=True, use_device=use_device, profile_memory=True) as profiler:
        with record_function("forward"):
            weight = torch.randn(2048, 2048, device=DEVICE, requires_grad=True)
            y = (weight @ weight).sum()
        y.backward()
        del y
    counts: dict[str, int] = {}
    results: Any = profiler.kineto_results
    waiting = list(results.experimental_event_tree())
    while waiting:
        event = waiting.pop()
        waiting += event.children
        key = None
        if event.name == "[memory]":
            key = f"{event.extra_fields.device.type} allocations"
        elif event.name == "forward":
            key = f"'forward' as {event.tag}"
        if key:
            counts[key] = counts.get(key, 0) + 1
    print(f"profiler with use_device={use_device}: {counts}", flush=True)


def compare_clusters() -> None:
    """Time both, in turn; the model says which ran."""
    for batch, steps in ((1, 10), (8, 10), (8, 100), (32, 100)):
        for blocks in ("0", "4", "0", "4"):
            os.environ[cluster.VARIABLE] = blocks
            report(f"sam lsh x{max(1, int(blocks))}", SAM, batch, steps, slots=min(SLOTS, 2**16), reads=4, index="lsh")
        print(*SAM(slots=8, **SIZES, reads=4).to(DEVICE).remarks(batch), flush=True)


def run_passes() -> None:
    """A few training passes: forward is launched, then backward."""
    model = SAM(slots=min(SLOTS, 2**16), reads=4, index="lsh", **SIZES).to(DEVICE)
    state, x = model.initial_state(8, fill="full"), torch.randn(10, 8, SIZES["input_size"], device=DEVICE)
    for _ in range(6):
        model(x, state)[0].sum().backward()
    synchronize()


def main() -> None:
    """All of it, what matters most first."""
    if "passes" in sys.argv:
        return run_passes()
    if "clusters" in sys.argv:
        return compare_clusters()
    for batch, steps in ((1, 10), (8, 10), (8, 100)):
        report("sam lsh", SAM, batch, steps, reads=4, index="lsh")
    if ON_GPU:
        report("sam lsh", SAM, 128, 10, slots=2**16, reads=4, index="lsh")
    for batch in (1, 8):
        report("sam exact", SAM, batch, 10, reads=4)
    report("sdnc lsh", SDNC, 8, 10, reads=4, index="lsh")
    report("sam exact", SAM, 8, 100, slots=1024, reads=4)
    report("ntm", NTM, 8, 10, passes=4)
    for use_device in (None, "cuda") if ON_GPU else (None,):
        probe_profiler(use_device)


if __name__ == "__main__":
    main()
