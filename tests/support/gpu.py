"""Helpers of tests/cuda. All of them are tested without a GPU in tests/kernels/test_gpu_support.py."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile


@contextmanager
def no_wait() -> Iterator[None]:
    """Raise an error wherever the host waits for the GPU. The mode is reset even if setting it fails halfway."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls this mode a prototype, once a process
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def profiled_names(work: Callable[[], object], activities: Sequence[ProfilerActivity]) -> list[str]:
    """The names of all that a profiler sees of some work, the synchronisation that ends profiling included."""
    with profile(activities=activities, acc_events=True) as profiler:  # without acc_events torch warns that it forgets events
        work()
    return [event.name for event in profiler.events()]  # inside the block there are none yet


def sanitizer_options(help_text: str) -> list[str]:
    """Options of compute-sanitizer that leave out kernels and calls which are not ours, as far as its `--help` knows them."""
    kernels = re.search(r"--kernel-name\b|--kernel-regex\b", help_text)
    options = [kernels.group(), "kns=mb_"] if kernels else []
    return options + (["--report-api-errors", "no"] if "--report-api-errors" in help_text else [])
