"""A measuring process: one case, driven by JSON lines (`python -m mann_bench.worker THREADS` reads commands, writes one reply each).

    {"do": "start"}                                                               answered when all is imported
    {"do": "prepare", "case": {...}, "memory_bytes": 8589934592, "warmup_s": 2}   build, check, gate, memory pass, warm-up
    {"do": "round", "seconds": 1.0, "target": 0.05, "flush": false}               samples of one round
    {"do": "profile", "case": {...}, "memory_bytes": 8589934592, "folder": "..."} one case taken apart, instead of the above
    {"do": "quit"}

A process of its own gives each case a clean allocator and clean peaks, and lets it die without taking anything with it.
"""

import ctypes
import gc
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

import torch

from mann_bench.data.case import Case
from mann_bench.data.errors import OUT_OF_MEMORY
from mann_bench.machine.cpus import hold_to
from mann_bench.machine.environment import device_name
from mann_bench.measure.device import open_device
from mann_bench.measure.gate import check_workload
from mann_bench.measure.memory import build_recorded, measure_memory
from mann_bench.measure.timing import sample, warm_up
from mann_bench.measure.trace import recording
from mann_bench.measure.workload import Workload, make_workload

PARENT_DEATH = 1  # prctl's PR_SET_PDEATHSIG


class Worker:
    """Holds the workload between commands."""

    workload: Workload

    def start(self) -> dict[str, Any]:
        """Nothing: the answer alone says that this process is ready."""
        return {}

    def profile(self, case: dict[str, Any], memory_bytes: int, folder: str) -> dict[str, Any]:
        """One case taken apart; files that only this process can write go to the folder."""
        from mann_bench.measure.profile import profile_case

        self.case = Case(**case)
        torch.set_num_threads(self.case.threads)
        limit_memory(self.case.device, memory_bytes)
        return {"profile": profile_case(self.case, Path(folder)).model_dump()}

    def prepare(self, case: dict[str, Any], memory_bytes: int, warmup_s: float) -> dict[str, Any]:
        """Everything before timing; the reply holds `ran`, `reason` (of a fallback), `check`, `recall`, `memory` and `warmup_ms`, or a
        status and its reason.
        """
        self.case = Case(**case)
        torch.set_num_threads(self.case.threads)
        limit_memory(self.case.device, memory_bytes)
        self.device = open_device(self.case.device)
        self.workload, hidden_bytes = build_recorded(self.case.device, lambda: make_workload(self.case))
        first = self.device.time(self.workload.try_step)
        ran = self.workload.ran
        check = check_workload(self.workload)
        if check is not None and not check.ok:
            reason = f"differs from {check.compared_with} by {check.max_rel_err:.2g} (relative RMS) at a small size"
            return {"status": "unverified", "reason": reason, "check": check.model_dump()}
        fallback = self.workload.fallback
        first_ms = first.wall_ms + self.device.time(self.workload.run_pass).wall_ms
        self.workload.clear()
        memory = measure_memory(self.workload, hidden_bytes)
        gc.collect()
        gc.freeze()  # Python's collector then passes over what lives on, torch's half a million objects first of all
        return {
            "ran": {"kernels": ran["kernels"], "index": ran["index"], "device_name": device_name(self.case.device)},
            "check": check.model_dump() if check else None,
            "reason": fallback and f"kernels={self.case.kernels} runs as torch: {fallback}",
            "recall": self.workload.recall(),
            "memory": memory.model_dump(),
            "first_ms": first_ms,
            "warmup_ms": warm_up(self.device, self.workload.run_pass, self.workload.clear, warmup_s),
        }

    def round(self, seconds: float, target: float, flush: bool) -> dict[str, Any]:
        """One round of timed passes."""
        return sample(self.device, self.workload.run_pass, self.workload.clear, seconds, target, flush=flush).to_json()


def limit_memory(device: str, budget_bytes: int) -> None:
    """Let this process allocate `budget_bytes` more than it holds now, of a GPU's memory in all; beyond, allocations fail cleanly."""
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
    """Start the threads of torch's team and of its profiler now. At a limit of memory they could not be, and their libraries then end the
    process, each in a way of its own.
    """
    torch.ones(torch.get_num_threads() * 2**16).exp()
    with recording("cpu"):
        pass


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed, on the CPU or a GPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in str(error) for sign in OUT_OF_MEMORY)


def answer(worker: Worker, command: dict[str, Any]) -> dict[str, Any]:
    """Run one command; whatever goes wrong becomes a status and a reason."""
    do = command.pop("do")
    try:
        reply: dict[str, Any] = getattr(worker, do)(**command)
        return reply
    except Exception as error:  # the model may be anyone's: any failure of it is data
        status = "oom" if is_out_of_memory(error) else "error"
        first_line = str(error).strip().partition("\n")[0]
        return {"status": status, "reason": f"{type(error).__name__}: {first_line}"}


def serve(commands: TextIO, replies: TextIO) -> None:
    """Answer commands until `quit` or the end of input."""
    worker = Worker()
    for line in commands:
        command = json.loads(line)
        if command["do"] == "quit":
            return
        print(json.dumps(answer(worker, command)), file=replies, flush=True)


def open_replies() -> TextIO:
    """The real standard output, for replies: what a model prints goes to standard error. From here on this process dies with its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def main() -> None:
    """Serve one driver."""
    hold_to(int(sys.argv[1]))
    with open_replies() as replies:
        serve(sys.stdin, replies)
