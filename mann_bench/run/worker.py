"""A measuring process. It reads commands as JSON lines and writes one reply (`replies.py`) to each, over pipes of its own (`channel.py`).

    {"do": "start"}                                                               answered once everything is imported
    {"do": "prepare", "case": {...}, "memory_bytes": 8589934592, "warmup_s": 2}   build, verify, measure memory, warm up
    {"do": "round", "seconds": 1.0, "target": 0.05, "flush": false}               time passes for one round
    {"do": "copy", "size_bytes": 134217728, "seconds": 0.1}                       time copies of memory; only asked if `prepare` has a floor
    {"do": "profile", "case": {...}, "memory_bytes": 8589934592, "folder": "..."} profile a case, instead of the above
    {"do": "look", "models": {"my_memory:MyMemory": [{"depth": 2}]}}              import models of the user's; what is wrong with each
    {"do": "quit"}

Each case has a process of its own: its allocator and its peaks start clean, and it can die without ending the run.
"""

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel

from mann_bench.data.case import Case
from mann_bench.data.errors import OUT_OF_MEMORY, UsageError
from mann_bench.data.fields import Json, JsonObject
from mann_bench.data.options import Options
from mann_bench.data.registry import find_model
from mann_bench.data.result import Backend
from mann_bench.kernels.index import Unavailable
from mann_bench.machine.devices import device_name
from mann_bench.measure.conduct import IDLE_SHARE, Answers, Conduct, idle_share
from mann_bench.measure.copies import copy_rates
from mann_bench.measure.device import open_device
from mann_bench.measure.gate import check_workload
from mann_bench.measure.limit import limit_data
from mann_bench.measure.memory import build_recorded, measure_memory
from mann_bench.measure.timing import Round, sample, warm_up
from mann_bench.measure.trace import recording
from mann_bench.measure.workload import Workload, make_workload
from mann_bench.run.channel import Channel, open_channel
from mann_bench.run.replies import Copied, Failure, Prepared, Started, reply_fields
from mann_bench.run.words import describe, print_exception, text_of


class Worker:
    """One method for each command. It keeps the workload between commands."""

    workload: Workload

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def start(self) -> Started:
        """Answer that this process is ready."""
        return Started()

    def look(self, models: dict[str, list[dict[str, Json]]]) -> BaseModel:
        """Import models and look at their arguments; none is built.

        Args:
            models: the options that each is to be made with.
        """
        from mann_bench.run.own_models import Looked, files_of_modules  # only this command needs it

        imported = {*sys.modules}
        problems: dict[str, str] = {}
        refused: dict[str, None] = {}
        for name, points in models.items():
            try:
                entry = find_model(name)
                for options in map(Options.validate, points):
                    if problem := entry.why_not_made(options):
                        problems[name] = problem
                    refused |= dict.fromkeys(filter(None, (entry.why_not_option(*item) for item in options.items())))
            except UsageError as error:
                problems[name] = str(error)
        return Looked(problems=problems, refused=list(refused), files=files_of_modules({*sys.modules} - imported))

    def profile(self, case: dict[str, Json], memory_bytes: int, folder: str) -> BaseModel:
        """Profile a case; traces and snapshots are written into the folder."""
        from mann_bench.measure.profile import profile_case  # only this command needs it
        from mann_bench.run.profiled import Profiled

        parsed = self._begin(case, memory_bytes)
        return Profiled(profile=profile_case(parsed, Path(folder)))

    def prepare(self, case: dict[str, Json], memory_bytes: int, warmup_s: float) -> Prepared | Failure:
        """Do everything that precedes timing."""
        parsed = self._begin(case, memory_bytes)
        self.conduct = Conduct()
        self.device = open_device(parsed.device)
        self.workload, hidden_bytes = build_recorded(parsed.device, lambda: make_workload(parsed))
        answers, outputs = Answers(self.workload), []
        first = self.device.time(self.workload.smoke_test)
        backend = self.workload.backend
        check = check_workload(self.workload)
        if check is not None and not check.ok:
            reason = f"differs from {check.compared_with} by {check.max_rel_err:.2g} (relative RMS) at a small size"
            return Failure(status="unverified", reason=reason, check=check)
        fallback = self.workload.fallback
        first_ms = first.wall_ms + self.device.time(lambda: outputs.append(self.workload.keep_output())).wall_ms
        self.workload.clear()
        memory = measure_memory(self.workload, hidden_bytes)
        recall = self.workload.recall()
        gc.collect()
        gc.freeze()  # garbage collection during timing then skips the half a million objects that torch keeps
        warmup_ms = warm_up(self.device, self.workload.run_pass, self.workload.clear, warmup_s)
        warnings = answers.findings(outputs[0], warmup_ms[-1])
        if (share := idle_share()) > IDLE_SHARE:
            warnings.append(f"{share:.0%} of a processor is busy after a pass has returned: not all of its work is timed")
        return Prepared(
            backend=Backend(**backend, device_name=device_name(parsed.device)),
            check=check,
            reason=fallback and f"kernels={parsed.kernels} runs as torch: {fallback}",
            recall=recall,
            memory=memory,
            floor=self.workload.floor(),
            first_ms=first_ms,
            warmup_ms=warmup_ms,
            warnings=[*self.warnings, *self.workload.remarks, *warnings],
        )

    def round(self, seconds: float, target: float, flush: bool) -> Round:
        """Time passes for one round."""
        timed = sample(self.device, self.workload.run_pass, self.workload.clear, seconds, target, flush=flush)
        return timed.model_copy(update={"warnings": self.conduct.changes()})

    def copy(self, size_bytes: int, seconds: float) -> Copied:
        """Time copies of memory."""
        return Copied(rates=copy_rates(self.device, size_bytes, seconds))

    def _begin(self, case: dict[str, Json], memory_bytes: int) -> Case:
        """Parse the case and limit this process to its threads and memory."""
        parsed = Case.model_validate(case)
        torch.set_num_threads(parsed.threads)
        smaller = limit_memory(parsed.device, memory_bytes)
        self.warnings = [smaller] if smaller else []
        return parsed


def limit_memory(device: str, budget_bytes: int) -> str | None:
    """Limit this process, so that allocations beyond the budget fail cleanly.

    Args:
        device: torch's name of the device whose memory is limited.
        budget_bytes: on a CPU, bytes above what the process holds now; on a GPU, bytes in all.

    Returns:
        A sentence if a limit was there already that leaves less: it stays.
    """
    if device.startswith("cuda"):
        total_bytes = torch.cuda.get_device_properties(device).total_memory
        # This call refuses "cuda" without a number; None stands for the current GPU.
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget_bytes / total_bytes), torch.device(device).index)
        return None
    start_threads()
    return limit_data(budget_bytes)


def start_threads() -> None:
    """Start torch's OpenMP threads and those of its profiler: under RLIMIT_DATA their creation may fail, and OpenMP or Kineto abort."""
    torch.ones(torch.get_num_threads() * 2**16).exp()
    with recording("cpu"):
        pass


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that an allocation failed, on the CPU or a GPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in text_of(error) for sign in OUT_OF_MEMORY)


def answer(worker: Worker, command: JsonObject) -> BaseModel:
    """Run one command; any exception becomes a `Failure`, and what Python says of it is printed."""
    method: Callable[..., BaseModel] = getattr(worker, command.pop("do"))
    try:
        return method(**command)
    except Exception as error:  # a user's model may raise anything: that is a result too
        print_exception(error)
        if isinstance(error, Unavailable):
            return Failure(status="unavailable", reason=text_of(error))
        if is_out_of_memory(error):
            return Failure(status="oom", reason="; ".join([describe(error), *worker.warnings]))
        return Failure(status="error", reason=describe(error))


def serve(channel: Channel) -> None:
    """Answer commands until `quit` or the end of the pipe."""
    worker = Worker()
    for command in channel.commands():
        if command["do"] == "quit":
            return
        number = command.pop("number")
        channel.send({"number": number, "reply": reply_fields(answer(worker, command))})


def main() -> None:
    """Run as a worker process."""
    serve(open_channel())
