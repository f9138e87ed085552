"""What a person should know about a result before believing it: a sentence each, with what to do next. Computed from stored results."""

import statistics

from mann_bench.data.result import Memory, Result, Timing
from mann_bench.data.units import format_bytes
from mann_bench.measure.timing import FEWEST, MAX_WARMUP, STEADY, split_rounds

MOVED = 0.05  # of the median: rounds that differ by more were taken on different machines, so to speak
WIDE = 0.10  # relative half-width of an interval that settles little
SHORT_MS = 0.05  # below, the clock and the call weigh in the sample
HOST_BOUND = 0.9
RESIDUAL = 0.02  # of the peak
LEAK_BYTES = 64 * 2**10  # a pass; less may be bookkeeping


def advise(result: Result) -> list[str]:
    """All that is wrong or noteworthy, the gravest first; empty for a good measurement."""
    about_time = _advise_time(result.time) if result.time else []
    return about_time + (advise_memory(result.memory) if result.memory else [])


def _advise_time(time: Timing) -> list[str]:
    said = []
    samples = time.pass_ms
    medians = [statistics.median(values) for values in split_rounds(samples.samples, time.round_counts) if values]
    moved = (max(medians) - min(medians)) / samples.median
    half_width = (samples.ci_high - samples.ci_low) / 2 / samples.median
    rounds = len(medians)
    if moved > MOVED:
        said.append(f"the median moved {moved:.0%} between rounds: the machine was busy; rerun with --rounds {max(8, 2 * rounds)}")
    if samples.count < FEWEST:
        said.append(
            f"only {samples.count} passes fitted into the time: their interval is just their range; rerun with more --timing-seconds"
        )
    elif half_width > WIDE and moved <= MOVED:
        said.append(f"the median is known to ±{half_width:.0%} only, from {samples.count} passes; rerun with more --timing-seconds")
    if len(time.warmup_ms) == MAX_WARMUP and abs(time.warmup_ms[-1] - time.warmup_ms[-2]) > STEADY * time.warmup_ms[-2]:
        said.append(f"{MAX_WARMUP} warm-up passes did not settle to within {STEADY:.0%}: early samples may be slower than late ones")
    if samples.median < SHORT_MS:
        said.append(f"a pass takes {samples.median * 1e3:.0f} us, so the clock weighs in it; measure more steps a pass")
    slowed = sorted({reason for reading in time.sensors for reason in reading.slowdowns})
    if slowed:
        said.append(f"the GPU was held back while it was timed ({', '.join(slowed)}); cool it, or lower its clocks with nvidia-smi -lgc")
    clocks = [reading.sm_clock_mhz for reading in time.sensors[1:] if reading.sm_clock_mhz]
    if clocks and max(clocks) - min(clocks) > MOVED * max(clocks):
        said.append(f"the GPU's clock moved between {min(clocks)} and {max(clocks)} MHz; fix it with nvidia-smi -lgc")
    if time.issue_share is not None and time.issue_share > HOST_BOUND:
        said.append(f"for {time.issue_share:.0%} of a pass the host was still issuing work: the host sets the pace, not the GPU")
    return said


def advise_memory(memory: Memory) -> list[str]:
    """Bytes without a cause, and leaks."""
    left = memory.ledger.get("unattributed", 0)
    said = []
    if abs(left) > RESIDUAL * memory.peak_bytes:
        part = f"{format_bytes(left)} of the peak ({left / memory.peak_bytes:.0%})"
        said.append(f"{part} belong to no known cause: held by the model outside its parameters and state, or leaked")
    if memory.leaked_bytes > LEAK_BYTES:
        said.append(f"each pass leaves {format_bytes(memory.leaked_bytes)} behind that nothing known holds: a leak, or a cache that grows")
    return said
