"""A measuring process. `python -m mann_bench.worker THREADS` reads commands as JSON lines and writes one reply (`replies.py`) to each.

    {"do": "start"}                                                               answered once everything is imported
    {"do": "prepare", "case": {...}, "memory_bytes": 8589934592, "warmup_s": 2}   build, verify, measure memory, warm up
    {"do": "round", "seconds": 1.0, "target": 0.05, "flush": false}               time passes for one round
    {"do": "profile", "case": {...}, "memory_bytes": 8589934592, "folder": "..."} profile a case, instead of the above
    {"do": "quit"}

Each case has a process of its own: its allocator and its peaks start clean, and it can die without ending the run.
"""

import ctypes
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch
from pydantic import BaseModel

from mann_bench.data.case import Case
from mann_bench.data.errors import OUT_OF_MEMORY
from mann_bench.data.result import Backend
from mann_bench.machine.cpus import pin_to_cpus
from mann_bench.machine.devices import device_name
from mann_bench.measure.device import open_device
from mann_bench.measure.gate import check_workload
from mann_bench.measure.memory import build_recorded, measure_memory
from mann_bench.measure.timing import Round, sample, warm_up
from mann_bench.measure.trace import recording
from mann_bench.measure.workload import Workload, make_workload
from mann_bench.run.replies import Failure, Prepared, Started, encode_reply

PARENT_DEATH = 1  # prctl's PR_SET_PDEATHSIG


class Worker:
    """One method for each command. It keeps the workload between commands."""

    workload: Workload

    def start(self) -> Started:
        """Answer that this process is ready."""
        return Started()

    def profile(self, case: dict[str, Any], memory_bytes: int, folder: str) -> BaseModel:
        """Profile a case; traces and snapshots are written into the folder."""
        from mann_bench.measure.profile import profile_case  # only this command needs it
        from mann_bench.run.profiling import Profiled

        parsed = self._begin(case, memory_bytes)
        return Profiled(profile=profile_case(parsed, Path(folder)))

    def prepare(self, case: dict[str, Any], memory_bytes: int, warmup_s: float) -> Prepared | Failure:
        """Do everything that precedes timing."""
        parsed = self._begin(case, memory_bytes)
        self.device = open_device(parsed.device)
        self.workload, hidden_bytes = build_recorded(parsed.device, lambda: make_workload(parsed))
        first = self.device.time(self.workload.smoke_test)
        backend = self.workload.backend
        check = check_workload(self.workload)
        if check is not None and not check.ok:
            reason = f"differs from {check.compared_with} by {check.max_rel_err:.2g} (relative RMS) at a small size"
            return Failure(status="unverified", reason=reason, check=check)
        fallback = self.workload.fallback
        first_ms = first.wall_ms + self.device.time(self.workload.run_pass).wall_ms
        self.workload.clear()
        memory = measure_memory(self.workload, hidden_bytes)
        gc.collect()
        gc.freeze()  # garbage collection during timing then skips the half a million objects that torch keeps
        return Prepared(
            backend=Backend(**backend, device_name=device_name(parsed.device)),
            check=check,
            reason=fallback and f"kernels={parsed.kernels} runs as torch: {fallback}",
            recall=self.workload.recall(),
            memory=memory,
            first_ms=first_ms,
            warmup_ms=warm_up(self.device, self.workload.run_pass, self.workload.clear, warmup_s),
        )

    def round(self, seconds: float, target: float, flush: bool) -> Round:
        """Time passes for one round."""
        return sample(self.device, self.workload.run_pass, self.workload.clear, seconds, target, flush=flush)

    def _begin(self, case: dict[str, Any], memory_bytes: int) -> Case:
        """Parse the case and limit this process to its threads and memory."""
        parsed = Case(**case)
        torch.set_num_threads(parsed.threads)
        limit_memory(parsed.device, memory_bytes)
        return parsed


def limit_memory(device: str, budget_bytes: int) -> None:
    """Limit this process, so that allocations beyond the budget fail cleanly.

    Args:
        device: torch's name of the device whose memory is limited.
        budget_bytes: on a CPU, bytes above what the process holds now; on a GPU, bytes in all.
    """
    if device.startswith("cuda"):
        total_bytes = torch.cuda.get_device_properties(device).total_memory
        # This call refuses "cuda" without a number; None stands for the current GPU.
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget_bytes / total_bytes), torch.device(device).index)
        return
    status = Path("/proc/self/status")
    if not status.is_file():
        return
    start_threads()
    data_kib = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmData"))
    limit = data_kib * 1024 + budget_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def start_threads() -> None:
    """Start torch's OpenMP threads and those of its profiler: under RLIMIT_DATA their creation may fail, and OpenMP or Kineto abort."""
    torch.ones(torch.get_num_threads() * 2**16).exp()
    with recording("cpu"):
        pass


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that an allocation failed, on the CPU or a GPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in str(error) for sign in OUT_OF_MEMORY)


def answer(worker: Worker, command: dict[str, Any]) -> BaseModel:
    """Run one command; any exception becomes a `Failure`."""
    method: Callable[..., BaseModel] = getattr(worker, command.pop("do"))
    try:
        return method(**command)
    except Exception as error:  # a user's model may raise anything: that is a result too
        first_line = str(error).strip().partition("\n")[0]
        return Failure(status="oom" if is_out_of_memory(error) else "error", reason=f"{type(error).__name__}: {first_line}")


def serve(commands: TextIO, replies: TextIO) -> None:
    """Answer commands until `quit` or end of file."""
    worker = Worker()
    for line in commands:
        command = json.loads(line)
        if command["do"] == "quit":
            return
        print(encode_reply(answer(worker, command)), file=replies, flush=True)


def open_replies() -> TextIO:
    """Reserve standard output for replies: from here on, what a model prints goes to standard error. Also, die with the parent process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def main() -> None:
    """Run as a worker process."""
    pin_to_cpus(int(sys.argv[1]))
    with open_replies() as replies:
        serve(sys.stdin, replies)
