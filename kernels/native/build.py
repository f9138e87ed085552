"""Compiles `csrc/` on first use and keeps the result under a hash of source, flags, compiler and processor.

A build is written beside its place and moved there whole, so that an interrupted one leaves a sound cache. Of processes that need the
same library at once one builds it and the others wait; where files cannot be locked each makes a whole one, and the last to finish stays.
The folder is `MANN_BENCH_CACHE`, else `~/.cache/mann-bench`. A library is code that will run as this user, so neither it nor the folder may
be one that another user can write.
"""

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mann_bench.kernels.native.arguments import Arguments
from mann_bench.kernels.native.headers import SOURCES
from mann_bench.kernels.native.tensors import address, taker

FLAGS = ("-std=c++17", "-fPIC", "-shared", "-fno-strict-aliasing")
# For AMD's processors GCC keeps some products apart from their sums, and which ones differs from one copy of a loop to the
# next. An element's numbers must not depend on the batch that it is in.
FUSED = "--param=avoid-fma-max-bits=0"
# Not -ffast-math: only the sums that say so are reordered into SIMD, NaN keeps its meaning, and the process's floating-point mode its own.
FAST = ("-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", FUSED, "-fvisibility=hidden", "-Wno-psabi")
CHECKED = ("-O1", "-g1", "-fno-omit-frame-pointer")  # g1: lines alone, which compile faster
MAIN = SOURCES / "host.cpp"
SEAL_BYTES = 32
UNFINISHED = "build-"  # begins the name of a folder in which a build is made
COMPILE_S, VERSION_S = 600, 10  # the most that a compiler may take
PROCESSOR_FACTS = ("model name", "flags", "Features", "CPU implementer", "CPU variant", "CPU part", "isa", "uarch")  # of x86, ARM, RISC-V
REALS = {"float32": "float", "float64": "double"}
Opened = TypeVar("Opened")


class BuildError(RuntimeError):
    """No native library can be had here; the message says why and what to do."""


def compiler() -> str:
    """Command of the C++ compiler: $CXX, else the path of the first of c++, g++, clang++; BuildError if there is none."""
    if chosen := os.environ.get("CXX"):
        try:
            program, *options = shlex.split(chosen)
            path = shutil.which(program)
        except ValueError:  # no words, or a quote that does not end
            path = None
        if path:
            return shlex.join([path, *options])
        raise BuildError(f"CXX: expected a C++ compiler, got {chosen!r}, which is no program that can be run; correct it or unset it")
    for name in ("c++", "g++", "clang++"):
        if path := shutil.which(name):
            return shlex.quote(path)
    raise BuildError("no C++ compiler found: install g++ or clang++, or set CXX")


def cache_folder() -> Path:
    """Where built libraries are kept; BuildError for a user without a home folder, as in some containers."""
    chosen = os.environ.get("MANN_BENCH_CACHE")
    try:
        return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mann-bench"
    except RuntimeError as error:
        raise BuildError("the kernels cannot be kept: this user has no home folder; set MANN_BENCH_CACHE to a folder of yours") from error


def flags(
    real: str = "float32", store: str | None = None, *, emulate: bool = False, dense: bool = False, extra: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Compiler flags of one build: the number type of the model, that of the memory rows, whether blocks are emulated by fibers, and
    whether it is the one for models with a dense memory.
    """
    if real not in REALS or store not in (None, real, "bfloat16"):
        raise ValueError(f"real, store: expected one of {', '.join(REALS)} and the same or bfloat16, got {real!r}, {store!r}")
    chosen = [*FLAGS, *(CHECKED if emulate or extra else FAST), f"-DMB_REAL={REALS[real]}"]
    defined = {"-DMB_STORE_BF16": store == "bfloat16", "-DMB_EMULATE": emulate, "-DMB_DENSE": dense}
    return (*chosen, *(name for name, is_defined in defined.items() if is_defined), *extra)


def build_hash(main: Path, *settings: str) -> str:
    """16 hex digits that change with the file compiled, the headers beside and below it, and what else the result depends on: flags,
    compiler, processor.
    """
    digest = hashlib.sha256("\0".join(settings).encode())
    for header in sorted(main.parent.rglob("*.h")):
        digest.update(header.relative_to(main.parent).as_posix().encode() + header.read_bytes())
    digest.update(main.name.encode() + main.read_bytes())
    return digest.hexdigest()[:16]


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The file of that name in the cache; if it is not there, `make` writes it to the path it is given. BuildError if that cannot be."""
    target = cache_folder() / name
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not only_ours(target.parent):
            raise BuildError(
                f"{target.parent}: expected a folder of this user's that no other can write to, as what is built there is run; "
                f"chmod 700 it if it is yours, or set MANN_BENCH_CACHE to a folder of yours"
            )
        if target.is_file() and only_ours(target):
            return target
        remove_old_builds(target.parent)
        with alone(target), tempfile.TemporaryDirectory(dir=target.parent, prefix=UNFINISHED) as folder:
            if target.is_file() and only_ours(target):  # by now
                return target
            made = Path(folder) / name
            make(made)
            made.chmod(0o700)
            os.replace(made, target)
    except OSError as error:
        raise BuildError(
            f"the kernels could not be built in {target.parent}: {error}; set MANN_BENCH_CACHE to a folder of yours"
        ) from error
    return target


@contextlib.contextmanager
def alone(target: Path, wait_s: float = COMPILE_S) -> Iterator[None]:
    """Wait while another process makes the same file, but no longer than that may take; not at all where files cannot be locked."""
    lock = target.with_name(f"{UNFINISHED}{target.name}.lock")
    until = time.monotonic() + wait_s
    with lock.open("a") as file:
        while time.monotonic() < until:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process that holds it
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def only_ours(path: Path) -> bool:
    """Whether a file or folder is this user's and nobody else can write to it."""
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def remove_old_builds(folder: Path) -> None:
    """Remove what builds that were killed have left; one that still runs is younger."""
    for left in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):  # another build has just ended, and taken its folder away
            if left.stat().st_mtime >= time.time() - 2 * COMPILE_S:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def compile_with(command: str, *arguments: str) -> None:
    """Run a compiler; BuildError with its words if it fails."""
    code, _, words = run_compiler(command, *arguments, timeout_s=COMPILE_S)
    if code != 0:
        raise BuildError(f"{command} could not compile the kernels: {words.strip()[-2000:]}")


def run_compiler(command: str, *arguments: str, timeout_s: float) -> tuple[int, str, str]:
    """Exit code, output and errors of a compiler; BuildError in one sentence if it cannot be run or does not end."""
    try:
        done = subprocess.run(
            [*shlex.split(command), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"the compiler {command} did not end within {timeout_s:g} s; set CXX to another one") from None
    except OSError as error:
        raise BuildError(f"the compiler {command} cannot be run: {error}; set CXX to another one") from error
    return done.returncode, done.stdout, done.stderr


def library_path(chosen: tuple[str, ...], main: Path = MAIN) -> Path:
    """Where the library made of a file with these flags is or will be; BuildError if there is no compiler."""
    return cache_folder() / f"{build_hash(main, *chosen, version(compiler()), processor())}.so"


def build(chosen: tuple[str, ...], main: Path = MAIN, libraries: tuple[str, ...] = ("-lpthread",)) -> Path:
    """The library made with these flags, compiled if it is not in the cache; BuildError with the compiler's words if that fails."""

    def make(made: Path) -> None:
        compile_with(compiler(), *chosen, f"-I{SOURCES}", "-o", str(made), str(main), *libraries)
        made.write_bytes(sealed(made.read_bytes()))

    return cached(library_path(chosen, main).name, make)


def sealed(content: bytes) -> bytes:
    """A library with its own checksum behind it, which no loader minds: one cut off or changed can crash the process that loads it."""
    return content + hashlib.sha256(content).digest()


def is_sound(path: Path) -> bool:
    """Whether a sealed library is as it was written."""
    content = path.read_bytes()
    return len(content) > SEAL_BYTES and content == sealed(content[:-SEAL_BYTES])


@functools.cache
def load(
    real: str = "float32", store: str | None = None, *, emulate: bool = False, dense: bool = False, extra: tuple[str, ...] = ()
) -> ctypes.CDLL:
    """The loaded library, built if need be; a damaged one in the cache is built once more. BuildError if none can be had."""
    chosen = flags(real, store, emulate=emulate, dense=dense, extra=extra)
    return open_sound(lambda: build(chosen), _open)


def open_sound(make: Callable[[], Path], opened: Callable[[Path], Opened]) -> Opened:
    """Open the library that `make` gives, which is asked once more where it is damaged; BuildError if it cannot be opened."""
    try:
        if not is_sound(path := make()):
            path.unlink(missing_ok=True)
            path = make()
        return opened(path)
    except OSError as error:
        raise BuildError(f"the built kernels cannot be loaded: {error}") from error


@functools.cache
def why_not(real: str = "float32", *, dense: bool = False) -> str | None:
    """Why there are no native kernels here, or None; found out once in a process."""
    try:
        load(real, dense=dense)
    except BuildError as error:
        return str(error)
    return None


def can_be_had(real: str = "float32", *, dense: bool = False) -> bool:
    """Whether the library is in the cache or there is a compiler that may make it; nothing is built."""
    try:
        library_path(flags(real, dense=dense))
    except BuildError:
        return False
    return True


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.mb_arguments_bytes.restype = library.mb_first_bad_row.restype = ctypes.c_int64
    library.mb_first_bad_row.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    if library.mb_arguments_bytes() != ctypes.sizeof(Arguments):
        raise OSError(f"{path}: expected arguments of {ctypes.sizeof(Arguments)} bytes, got {library.mb_arguments_bytes()}")
    taker.use(str(path))
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
            return address(function)
    return None


def version(command: str) -> str:
    """What a compiler says it is; BuildError if it says nothing."""
    said, wrong = _asked(command)
    if wrong:
        raise BuildError(wrong)
    return said


@functools.cache
def _asked(command: str) -> tuple[str, str | None]:
    """What a compiler says it is, or why it does not: a compiler that hangs is asked once in a process."""
    try:
        code, said, words = run_compiler(command, "--version", timeout_s=VERSION_S)
    except BuildError as error:
        return "", str(error)
    wrong = f"the compiler {command} fails when asked for its --version: {words.strip()[-500:]}; set CXX to another one"
    return said, wrong if code else None


@functools.cache
def processor() -> str:
    """What `-march=native` depends on: names and features of the processor and, where they differ, of all its cores."""
    info = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in info.read_text().splitlines()] if info.is_file() else []
    found = {(name.strip(), value.strip()) for name, _, value in lines}
    facts = ["/".join(sorted(value for name, value in found if name == fact)) for fact in PROCESSOR_FACTS]
    return "|".join((platform.machine(), *(facts if any(facts) else [platform.processor()])))
