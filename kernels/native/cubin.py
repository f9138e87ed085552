"""Compiles `csrc/device.cu` to machine code for one GPU architecture, kept in the cache of `build.py`. No GPU and no driver are needed.

The compiler is NVRTC through cuda-core where both are installed, else nvcc. Their cubins are alike and are loaded by `driver.py`. One that
was carried here (`carried.py`) is taken before any compiler is asked.
"""

import ctypes
import functools
import importlib
import shlex
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mann_bench.kernels.native import build, carried
from mann_bench.kernels.native.arguments import Arguments
from mann_bench.kernels.native.headers import SOURCES

MAIN = SOURCES / "device.cu"
THREADS = 512  # of a block
KNOWN_WIDTHS = (32,)  # word sizes that get kernels of their own
ANY_WIDTH = 0
CLUSTER_BLOCKS = 4  # that step one batch element together
FIRST_WITH_CLUSTERS = 90  # of the numbers that follow `sm_`
TYPES = (("float32", "float32"), ("float64", "float64"), ("float32", "bfloat16"))  # of a model and of its memory rows


class Compiler(NamedTuple):
    """A CUDA compiler: its version, and what it does with macros, an architecture such as `sm_90`, and a path for the cubin."""

    version: str
    compile: Callable[[list[str], str, Path], None]


def nvrtc() -> Compiler:
    """NVRTC; BuildError if it or cuda-core is missing. Nothing here asks for a GPU: cuda-core objects that would are not made."""
    try:
        program = importlib.import_module("cuda.core").Program
        options = importlib.import_module("cuda.core").ProgramOptions
        _, *version = importlib.import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except (
        Exception
    ) as error:  # not installed, an older interface, or NVRTC's library is missing: cuda-core has an error of its own for each
        raise build.BuildError(f"NVRTC: {str(error).partition(chr(10))[0]}") from error

    def compile_(macros: list[str], arch: str, made: Path) -> None:
        chosen = options(arch=arch, std="c++17", include_path=[str(SOURCES)], define_macro=macros)
        try:
            made.write_bytes(program(MAIN.read_text(), "c++", chosen).compile("cubin").code)
        except Exception as error:
            raise build.BuildError(f"NVRTC could not compile the kernels for {arch}: {str(error).strip()[-2000:]}") from error

    return Compiler(f"nvrtc {version}", compile_)


def nvcc() -> Compiler:
    """nvcc; BuildError if there is none."""
    path = shutil.which("nvcc")
    if path is None:
        raise build.BuildError("nvcc: not on the PATH")
    command = shlex.quote(path)

    def compile_(macros: list[str], arch: str, made: Path) -> None:
        defined = [f"-D{macro}" for macro in macros]
        build.compile_with(command, "-cubin", "-std=c++17", f"-arch={arch}", *defined, f"-I{SOURCES}", "-o", str(made), str(MAIN))

    return Compiler(build.version(command), compile_)


@functools.cache
def compiler() -> Compiler:
    """The first that is here; BuildError saying what is missing."""
    missing = []
    for find in (nvrtc, nvcc):
        try:
            return find()
        except build.BuildError as error:
            missing.append(str(error))
    raise build.BuildError(f"no CUDA compiler ({'; '.join(missing)}): pip install cuda-core nvidia-cuda-nvrtc, or put nvcc on the PATH")


def macros(real: str, store: str, width: int, cluster: int = 0, *, general: bool = False) -> list[str]:
    """What one build defines: number types, the word size if it is a known one, the blocks of a cluster if it is for clusters, and, unless
    it is a general one, that all elements have as many steps and that no rows are kept rounded. No 8-bit copies of rows are searched on a
    GPU (`index/scan.py`): without them the code is half as long again.
    """
    chosen = [f"MB_REAL={build.REALS[real]}", f"MB_THREADS={THREADS}", f"MB_ARGUMENTS_BYTES={ctypes.sizeof(Arguments)}"]
    chosen += [f"MB_FIXED_WIDTH={known(width)}", *(["MB_STORE_BF16"] if store == "bfloat16" else [])]
    chosen += ["MB_NO_BYTE_ROWS", *([] if general else ["MB_EQUAL_LENGTHS", "MB_EXACT_ROWS"])]
    return [*chosen, *([f"MB_CLUSTER={cluster}"] if cluster else [])]


def known(width: int) -> int:
    """The word size that kernels are built for: this one, or any."""
    return width if width in KNOWN_WIDTHS else ANY_WIDTH


def compile_kernels(
    arch: str,
    real: str = "float32",
    store: str = "float32",
    width: int = 32,
    cluster: int = 0,
    by: Compiler | None = None,
    *,
    general: bool = False,
) -> Path:
    """The cubin for an architecture, compiled if it is not in the cache; BuildError with the compiler's words if that fails.

    Args:
        cluster: blocks of a cluster, for the kernels that one steps through; 0: all other kernels.
        by: the compiler; without one a carried cubin is used if there is one, else the first compiler that is here.
        general: for passes whose elements have lengths or candidates of their own, or that keep rows rounded; they are made when they are
            first needed.
    """
    defined = macros(real, store, width, cluster, general=general)
    if by is None:
        source = build.build_hash(MAIN, *defined, arch)
        content = None if general else carried.find(purpose(arch, real, store, width, cluster), source)
        if content is not None:
            return build.cached(f"{source}.cubin", lambda made: carried.unpack(content, made))
        by = compiler()
    version, compile_ = by
    name = f"{build.build_hash(MAIN, *defined, arch, version)}.cubin"
    return build.cached(name, lambda made: compile_(defined, arch, made))


def purpose(arch: str, real: str, store: str, width: int, cluster: int = 0) -> str:
    """What a cubin is for, as part of the name of a carried one."""
    return f"{arch}{f'-cluster{cluster}' if cluster else ''}-{real}-{store}-{known(width) or 'any'}"


def has_clusters(arch: str) -> bool:
    """Whether GPUs of an architecture have clusters of blocks: from compute capability 9.0 on."""
    return int("".join(filter(str.isdigit, arch))) >= FIRST_WITH_CLUSTERS


def kinds(arch: str) -> list[tuple[str, str, int, int]]:
    """Number type, type of the memory rows, word size and blocks of a cluster (0: none) of all builds for one architecture."""
    clusters = (0, CLUSTER_BLOCKS) if has_clusters(arch) else (0,)
    return [(*types, width, cluster) for cluster in clusters for types in TYPES for width in (*KNOWN_WIDTHS, ANY_WIDTH)]


def compile_to_carry(arch: str, folder: Path, workers: int) -> Iterator[Path]:
    """Compile the cubins of all number types and word sizes for an architecture into a folder, `workers` at a time; yields each file."""
    by = compiler()
    with ThreadPoolExecutor(workers) as pool:
        making = [(kind, pool.submit(compile_kernels, arch, *kind, by=by)) for kind in kinds(arch)]
        for kind, made in making:
            source = build.build_hash(MAIN, *macros(*kind), arch)
            yield carried.write(folder, purpose(arch, *kind), source, made.result().read_bytes())
