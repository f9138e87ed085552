"""What a model does besides computing: what it changes for others, what outlives a pass, answers that are none.

Each finding is a sentence. None ends a measurement: whoever reads its result should know.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from mann_bench.measure.workload import ModelWorkload, Workload

SPIN_S = 0.05  # for threads of OpenMP to stop waiting for their next work, which they do spinning
IDLE_S = 0.05  # in which nothing should run
IDLE_SHARE = 0.2  # of a processor, that may be used in this time
SLOW_S = 1.0  # a longer pass is no remembered answer

SETTINGS: dict[str, Callable[[], object]] = {
    "torch's number of threads": torch.get_num_threads,
    "torch's default type": torch.get_default_dtype,
    "torch's default device": torch.get_default_device,
    "whether torch computes gradients": torch.is_grad_enabled,
    "whether torch is deterministic": torch.are_deterministic_algorithms_enabled,
    "the working folder": os.getcwd,
    "the handler of SIGTERM": lambda: signal.getsignal(signal.SIGTERM),
    "the handler of SIGINT": lambda: signal.getsignal(signal.SIGINT),
    "time.perf_counter": lambda: time.perf_counter,
    "time.monotonic": lambda: time.monotonic,
}
_sleep, _process_time = time.sleep, time.process_time  # a model may replace those of the module


class Conduct:
    """What has changed in this process since before the model was built."""

    def __init__(self) -> None:
        self.settings = {name: read() for name, read in SETTINGS.items()}
        self.threads, self.processes = threads(), processes()

    def changes(self) -> list[str]:
        """Settings that are others now, and threads and processes that are there and were not."""
        found = []
        for name, before in self.settings.items():
            with contextlib.suppress(OSError):  # a working folder that is gone
                if (now := SETTINGS[name]()) != before:
                    values = "" if callable(before) or callable(now) else f" from {before} to {now}"
                    found.append(f"the model changed {name}{values}")
        if count := len(threads() - self.threads):
            found.append(f"{count} threads of the model live on between its passes: they may work while others are timed")
        if count := len(processes() - self.processes):
            found.append(f"{count} processes of the model live on between its passes: their time and memory are not counted")
        return found


def threads() -> set[threading.Thread]:
    """Python's threads, but those of torch's compiler."""
    module_of = {thread: str(getattr(vars(thread).get("_target"), "__module__", "")) for thread in threading.enumerate()}
    return {thread for thread, module in module_of.items() if not module.startswith("torch.")}


def processes() -> set[int]:
    """Processes that this one has started, but those of torch's compiler."""
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if not any("torch/_inductor" in word for word in child.cmdline()):
                found.add(child.pid)
    return found


def idle_share() -> float:
    """Part of a processor that this process uses while it should be idle."""
    _sleep(SPIN_S)
    began = _process_time()
    _sleep(IDLE_S)
    return (_process_time() - began) / IDLE_S


class Answers:
    """Whether a model's answers are answers to its inputs. For other workloads there is nothing to ask."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload if isinstance(workload, ModelWorkload) else None
        self.inputs = [tensor.clone() for tensor in workload.input_tensors()] if self.workload else []

    def findings(self, first: Tensor, last_ms: float) -> list[str]:
        """What is wrong with them.

        Args:
            first: output of the first pass.
            last_ms: time of the last pass, which may have come from a memory of the first.
        """
        if self.workload is None:
            return []
        found = []
        if not bool(torch.isfinite(first).all()):
            found.append("the model's output is not finite")
        if any(not torch.equal(now, before) for now, before in zip(self.workload.input_tensors(), self.inputs, strict=True)):
            found.append("the model writes into its inputs: later passes compute with others than the first")
        if last_ms < SLOW_S * 1e3 and torch.equal(self._output_for_other_inputs(), first):
            other = ", or read only rows that were never written?" if self.workload.case.fill == "empty" else "?"
            found.append(f"the model's output is the same for other inputs: does it return an earlier one{other}")
        return found

    def _output_for_other_inputs(self) -> Tensor:
        """The output for other values in the same tensors, which then get their first values back."""
        assert self.workload is not None
        try:
            with self.workload.other_inputs():
                return self.workload.keep_output()
        finally:
            for tensor, before in zip(self.workload.input_tensors(), self.inputs, strict=True):
                tensor.copy_(before)
            self.workload.clear()
