"""Warnings about a result, a sentence each: why not to trust it and what to do next. They are computed from stored results."""

import statistics

from mann_bench.data.result import Memory, Result, Timing
from mann_bench.data.units import format_bytes
from mann_bench.measure.samples import FEWEST, MAX_WARMUP, STEADY, split_rounds

DRIFT_LIMIT = 0.05  # medians of rounds (or clocks) that differ by a larger part mean that the machine changed
WIDE = 0.10  # relative half-width of an interval that says little
SHORT_MS = 0.05  # in a shorter pass, reading the clock and the call itself take a noticeable part
HOST_BOUND = 0.9  # share of a pass that the host needs to issue its work
RESIDUAL = 0.02  # part of the peak that may have no known cause
LEAK_BYTES = 64 * 2**10  # growth per pass; less may be bookkeeping


def advise(result: Result) -> list[str]:
    """All warnings about a result, the gravest first; none for a good measurement."""
    about_time = _advise_time(result.time) if result.time else []
    return result.warnings + about_time + (advise_memory(result.memory) if result.memory else [])


def _advise_time(time: Timing) -> list[str]:
    warnings = []
    samples = time.pass_ms
    medians = [statistics.median(values) for values in split_rounds(samples.samples, time.round_counts) if values]
    drift = (max(medians) - min(medians)) / samples.median
    half_width = (samples.ci_high - samples.ci_low) / 2 / samples.median
    rounds = len(medians)
    if drift > DRIFT_LIMIT:
        warnings.append(f"the median moved {drift:.0%} between rounds: the machine was busy; rerun with --rounds {max(8, 2 * rounds)}")
    if samples.count < FEWEST:
        warnings.append(
            f"only {samples.count} passes fitted into the time: their interval is just their range; rerun with more --timing-seconds"
        )
    elif half_width > WIDE and drift <= DRIFT_LIMIT:
        warnings.append(f"the median is known to ±{half_width:.0%} only, from {samples.count} passes; rerun with more --timing-seconds")
    if len(time.warmup_ms) == MAX_WARMUP and abs(time.warmup_ms[-1] - time.warmup_ms[-2]) > STEADY * time.warmup_ms[-2]:
        warnings.append(f"{MAX_WARMUP} warm-up passes did not settle to within {STEADY:.0%}: early samples may be slower than late ones")
    if samples.median < SHORT_MS:
        warnings.append(f"a pass takes {samples.median * 1e3:.0f} us, so the clock weighs in it; measure more steps a pass")
    slowed = sorted({reason for reading in time.sensors for reason in reading.slowdowns})
    if slowed:
        warnings.append(
            f"the GPU was held back while it was timed ({', '.join(slowed)}); cool it, or lower its clocks with nvidia-smi -lgc"
        )
    clocks = [reading.sm_clock_mhz for reading in time.sensors[1:] if reading.sm_clock_mhz]
    if clocks and max(clocks) - min(clocks) > DRIFT_LIMIT * max(clocks):
        warnings.append(f"the GPU's clock moved between {min(clocks)} and {max(clocks)} MHz; fix it with nvidia-smi -lgc")
    if time.issue_share is not None and time.issue_share > HOST_BOUND:
        warnings.append(f"for {time.issue_share:.0%} of a pass the host was still issuing work: the host sets the pace, not the GPU")
    return warnings


def advise_memory(memory: Memory) -> list[str]:
    """Warnings about bytes without a cause, and about leaks."""
    unattributed = memory.ledger.get("unattributed", 0)
    warnings = []
    if abs(unattributed) > RESIDUAL * memory.peak_bytes:
        part = f"{format_bytes(unattributed)} of the peak ({unattributed / memory.peak_bytes:.0%})"
        warnings.append(f"{part} belong to no known cause: held by the model outside its parameters and state, or leaked")
    if memory.leaked_bytes > LEAK_BYTES:
        warnings.append(
            f"each pass leaves {format_bytes(memory.leaked_bytes)} behind that nothing known holds: a leak, or a cache that grows"
        )
    return warnings
