"""Have all native kernels ready on this machine, side by side: those of the CPU compiled, those of the GPU carried or compiled.

A line each, with the seconds it took: 0.0 where a build was there. Exit code 3: kernels that were carried cannot be used.
"""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from mann_bench.kernels.native import build, carried, cubin, driver
from mann_bench.machine.processor import usable_threads

REFUSED = 3


def line(name: str, make: Callable[[], Path]) -> str:
    """Have a build made; what to print of it."""
    began = time.monotonic()
    try:
        made = make().name
    except build.BuildError as error:
        if name.startswith("GPU") and os.environ.get(carried.VARIABLE):
            raise
        made = str(error)
    return f"{name}: {made} {time.monotonic() - began:.1f} s"


def main() -> int:
    """Have them made, and print the lines."""
    wanted = {f"CPU {real}": partial(build.build, build.flags(real)) for real in build.REALS}
    if torch.cuda.is_available():
        arch = driver.architecture(torch.cuda.current_device())
        for kind in cubin.kinds(arch):
            wanted[f"GPU {cubin.purpose(arch, *kind)}"] = partial(cubin.compile_kernels, arch, *kind)
    with ThreadPoolExecutor(usable_threads()) as pool:
        try:
            for text in pool.map(line, wanted, wanted.values()):
                print(text, flush=True)
        except build.BuildError as error:
            print(error)
            return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
