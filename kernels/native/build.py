"""Compiles `csrc/` on first use and keeps the result under a hash of source, flags, compiler and processor.

A build is written beside its place and moved there whole, so that an interrupted or raced one leaves a sound cache: processes that
build the same library at once each make a whole one and the last to finish stays. The folder is `MANN_BENCH_CACHE`, else
`~/.cache/mann-bench`.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from mann_bench.kernels.native.arguments import Arguments
from mann_bench.kernels.native.headers import SOURCES

FLAGS = ("-std=c++17", "-fPIC", "-shared", "-fno-strict-aliasing")
# Not -ffast-math: only the sums that say so are reordered into SIMD, NaN keeps its meaning, and the process's floating-point mode its own.
FAST = ("-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wno-psabi")
CHECKED = ("-O1", "-g", "-fno-omit-frame-pointer")
MAIN = SOURCES / "host.cpp"
SEAL_BYTES = 32
REALS = {"float32": "float", "float64": "double"}


class BuildError(RuntimeError):
    """No native library can be had here; the message says why and what to do."""


def compiler() -> str:
    """Path of the C++ compiler: $CXX, else the first of c++, g++, clang++; BuildError if there is none."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise BuildError("no C++ compiler found: install g++ or clang++, or set CXX")


def cache_folder() -> Path:
    """Where built libraries are kept."""
    chosen = os.environ.get("MANN_BENCH_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mann-bench"


def flags(real: str = "float32", store: str | None = None, *, emulate: bool = False, extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Compiler flags of one build: the number type of the model, that of the memory rows, and whether blocks are emulated by threads."""
    if real not in REALS or store not in (None, real, "bfloat16"):
        raise ValueError(f"real, store: expected one of {', '.join(REALS)} and the same or bfloat16, got {real!r}, {store!r}")
    chosen = [*FLAGS, *(CHECKED if emulate or extra else FAST), f"-DMB_REAL={REALS[real]}"]
    return (*chosen, *(["-DMB_STORE_BF16"] if store == "bfloat16" else []), *(["-DMB_EMULATE"] if emulate else []), *extra)


def build_hash(main: Path, *settings: str) -> str:
    """16 hex digits that change with the headers, the file compiled, and what else the result depends on: flags, compiler, processor."""
    digest = hashlib.sha256("\0".join(settings).encode())
    for header in sorted(SOURCES.rglob("*.h")):
        digest.update(header.relative_to(SOURCES).as_posix().encode() + header.read_bytes())
    digest.update(main.name.encode() + main.read_bytes())
    return digest.hexdigest()[:16]


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The file of that name in the cache; if it is not there, `make` writes it to the path it is given. BuildError if that cannot be."""
    target = cache_folder() / name
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as folder:
            make(Path(folder) / name)
            os.replace(Path(folder) / name, target)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(
            f"the kernels could not be built in {target.parent}: {error}; set MANN_BENCH_CACHE to a folder of yours"
        ) from error
    return target


def compile_with(command: str, *arguments: str) -> None:
    """Run a compiler; BuildError with its words if it fails."""
    done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise BuildError(f"{command} could not compile the kernels: {done.stderr.strip()[-2000:]}")


def library_path(chosen: tuple[str, ...]) -> Path:
    """Where the library made with these flags is or will be; BuildError if there is no compiler."""
    return cache_folder() / f"{build_hash(MAIN, *chosen, version(compiler()), processor())}.so"


def build(chosen: tuple[str, ...]) -> Path:
    """The library made with these flags, compiled if it is not in the cache; BuildError with the compiler's words if that fails."""

    def make(made: Path) -> None:
        compile_with(compiler(), *chosen, f"-I{SOURCES}", "-o", str(made), str(MAIN), "-lpthread")
        made.write_bytes(sealed(made.read_bytes()))

    return cached(library_path(chosen).name, make)


def sealed(content: bytes) -> bytes:
    """A library with its own checksum behind it, which no loader minds: one cut off or changed can crash the process that loads it."""
    return content + hashlib.sha256(content).digest()


def is_sound(path: Path) -> bool:
    """Whether a sealed library is as it was written."""
    content = path.read_bytes()
    return len(content) > SEAL_BYTES and content == sealed(content[:-SEAL_BYTES])


@functools.cache
def load(real: str = "float32", store: str | None = None, *, emulate: bool = False, extra: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The loaded library, built if need be; a damaged one in the cache is built once more. BuildError if none can be had."""
    chosen = flags(real, store, emulate=emulate, extra=extra)
    try:
        if not is_sound(build(chosen)):
            build(chosen).unlink(missing_ok=True)
        return _open(build(chosen))
    except OSError as error:
        raise BuildError(f"the built kernels cannot be loaded: {error}") from error


@functools.cache
def why_not(real: str = "float32") -> str | None:
    """Why there are no native kernels here, or None; found out once in a process."""
    try:
        load(real)
    except BuildError as error:
        return str(error)
    return None


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.mb_arguments_bytes.restype = library.mb_first_bad_row.restype = ctypes.c_int64
    library.mb_first_bad_row.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    if library.mb_arguments_bytes() != ctypes.sizeof(Arguments):
        raise OSError(f"{path}: expected arguments of {ctypes.sizeof(Arguments)} bytes, got {library.mb_arguments_bytes()}")
    library.mb_share_team.argtypes = (ctypes.c_void_p,)
    library.mb_share_team(openmp_parallel())
    return library


@functools.cache
def openmp_parallel() -> int | None:
    """Address of `GOMP_parallel` in the OpenMP runtime that torch has loaded, or None.

    Its threads wait for their next work spinning: threads of our own beside them would have to share the cores with that.
    """
    maps = Path("/proc/self/maps")
    loaded = {line.split()[-1] for line in maps.read_text().splitlines() if "omp" in line.rpartition("/")[2]} if maps.is_file() else set()
    for path in sorted(loaded):
        function = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value
    return None


@functools.cache
def version(command: str) -> str:
    """What a compiler says it is."""
    return subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60).stdout


@functools.cache
def processor() -> str:
    """What `-march=native` depends on: the processor's name and its features."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines[:40]}
    return "|".join((platform.machine(), named.get("model name", platform.processor()), named.get("flags", "")))
