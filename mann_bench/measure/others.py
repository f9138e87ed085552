"""Whether the machine was busy with other things while passes were timed."""

import os
from collections.abc import Sequence

import psutil

from mann_bench.data.units import format_number

MANY = 0.25  # of a pass: passes of the same work that differ by more were disturbed
BUSY = 0.1  # of this process's processors, that others may use


class Others:
    """The share of this process's processors that all other processes used since this object was made, and whether that disturbs."""

    def __init__(self) -> None:
        self.cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(psutil.cpu_count() or 1))
        self.began = self._busy_s()

    def share(self) -> float:
        """Their share, from 0 to 1; 0 where too little time has passed to say, or nothing can be read."""
        (all_busy, all_s, own), (busy_before, before_s, own_before) = self._busy_s(), self.began
        elapsed = all_s - before_s
        return min(1.0, max(0.0, (all_busy - busy_before) - (own - own_before)) / elapsed) if elapsed > 0.5 else 0.0

    def warnings(self, times_ms: Sequence[float]) -> list[str]:
        """Return what makes the times less certain, in sentences.

        Args:
            times_ms: of passes that did the same work, in order; the first may be slower than all others.
        """
        found, later = [], sorted(times_ms[1:])
        if (share := self.share()) > BUSY:
            found.append(
                f"The machine was busy: others used {share:.0%} of its processors while passes were timed. Profile again when it is idle."
            )
        if len(later) > 1 and later[0] > 0 and later[-1] / later[0] > 1 + MANY:
            found.append(
                f"Passes of the same work took {format_number(later[0])} to {format_number(later[-1])} ms: the machine "
                "was busy, or its clock changed. Trust shares and bytes more than milliseconds."
            )
        return found

    def _busy_s(self) -> tuple[float, float, float]:
        """Seconds that this process's processors were busy, and that passed on them all together; seconds of this process."""
        times = psutil.cpu_times(percpu=True)
        shown = [times[cpu] for cpu in self.cpus if cpu < len(times)]
        whole = sum(sum(time) - getattr(time, "guest", 0.0) - getattr(time, "guest_nice", 0.0) for time in shown)
        own = psutil.Process().cpu_times()
        return whole - sum(time.idle + getattr(time, "iowait", 0.0) for time in shown), whole, own.user + own.system
