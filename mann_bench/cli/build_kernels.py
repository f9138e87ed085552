"""`mann-bench build-kernels`: compile the kernels for a GPU that is elsewhere."""

import re
from pathlib import Path
from typing import Annotated

import typer

from mann_bench.cli.console import tell
from mann_bench.data.errors import UsageError
from mann_bench.data.units import format_bytes
from mann_bench.kernels.native import carried, cubin
from mann_bench.kernels.native.build import BuildError
from mann_bench.machine.processor import usable_threads

ARCHITECTURE = re.compile(r"sm_\d{2,3}[af]?")


def build_kernels(
    arch: Annotated[str, typer.Option(help="architecture of the GPU: sm_90 is an H100 or H200, sm_80 an A100")],
    out: Annotated[Path, typer.Option(help="folder for the cubins")],
) -> None:
    """Compile the GPU kernels beforehand, for all number types. No GPU is needed, but cuda-core with NVRTC, or nvcc."""
    if not ARCHITECTURE.fullmatch(arch):
        raise UsageError(f"--arch: expected an architecture such as sm_90, got {arch!r}")
    try:
        for path in cubin.compile_to_carry(arch, out, usable_threads()):
            print(f"{path} ({format_bytes(path.stat().st_size)})", flush=True)
    except BuildError as error:
        tell(f"error: {error}")
        raise typer.Exit(1) from None
    print(f"copy {out} to the machine with the GPU, beside the same version of mann-bench, and set {carried.VARIABLE} to it")
