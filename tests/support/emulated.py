"""Native calls in processes under a sanitizer: the emu build with 7 fibers a block, or the GPU's source with a fiber per lane.

With a cluster, the passes run in another program, in which several blocks step each batch element.
"""

import ctypes
import itertools
import subprocess
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from mann_bench.kernels import ops
from mann_bench.kernels.native import build, call, driver
from mann_bench.kernels.native.arguments import KINDS, SIZES, Arguments
from mann_bench.kernels.native.headers import SOURCES
from mann_bench.kernels.native.layout import Build, Layout, pack
from mann_bench.kernels.sequence import cluster as clusters
from mann_bench.kernels.sequence import dense, slot_steps
from mann_bench.kernels.sequence import tape as plan
from mann_bench.models import dense_native
from mann_bench.models.sparse import native

MAIN = Path(__file__).with_suffix(".cpp")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-psabi")  # psabi: how SIMD vectors are passed, which no other library sees
FOUND = 66  # exit code of a program whose sanitizer found something
OPTIONS = {
    "TSAN_OPTIONS": f"halt_on_error=1:exitcode={FOUND}:atexit_sleep_ms=0",
    "ASAN_OPTIONS": f"detect_leaks=0:exitcode={FOUND}",
    "UBSAN_OPTIONS": f"halt_on_error=1:print_stacktrace=1:exitcode={FOUND}",
}


class SanitizerError(AssertionError):
    """What a sanitizer found, with `exit_code` FOUND, or how a call ended otherwise."""

    def __init__(self, entry: str, exit_code: int, report: str) -> None:
        super().__init__(f"{entry}: exit {exit_code}: {report[:3000]}")
        self.exit_code = exit_code


class Program:
    """A program of `emulated.cpp`, in one process for all calls until one ends it: to start a sanitizer takes longer than most calls."""

    def __init__(self, path: Path, file: Path) -> None:
        self.path, self.file = path, file
        self.process: subprocess.Popen[str] | None = None

    def call(self, entry: str, site: str) -> list[str]:
        """Run an entry point on the arguments in the file, without the barrier at `site`.

        Returns:
            The places of the barriers that were met.
        """
        process = self.process = self.process or self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{entry} {site}\n")
        process.stdin.flush()
        sites: list[str] = []
        for line in process.stdout:
            if line == "\n":
                return sites
            sites.append(line.strip())
        self.process = None
        report = process.communicate()[1]
        raise SanitizerError(entry, process.returncode, report)

    def start(self) -> subprocess.Popen[str]:
        """Start the process; it ends with this object."""
        pipe = subprocess.PIPE
        process = subprocess.Popen([self.path, self.file], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=OPTIONS)
        weakref.finalize(self, process.communicate)
        return process


class Buffer(NamedTuple):
    """The bytes of a buffer, and the allocation they lie in: its number, its size, and their first byte there."""

    content: Tensor
    tensor: int
    tensor_bytes: int
    first_byte: int


class Emulator:
    """`call.run` in such a process. Of each entry point: the last input in `calls`, the places of its barriers in `sites`."""

    def __init__(
        self,
        sanitizer: str,
        folder: Path,
        *,
        gpu_width: int | None = None,
        gpu_threads: int = 64,
        real: str = "float32",
        store: str | None = None,
        packed: bool = False,
        cluster: int = 0,
        dense: bool = False,
    ) -> None:
        """Build the programs, if they are not in the cache.

        Args:
            gpu_width: run the text for the GPU, made for this known word size or 0.
            gpu_threads: threads of a block of the GPU.
            real: number type of the model.
            store: number type of its rows.
            packed: let buffers lie in their tensors as in a real call, not each in memory of its own.
            cluster: blocks of a cluster that steps each batch element; 0: one block does.
            dense: the kernels of models with a dense memory, instead of all others.
        """
        device = (
            "-DMB_WARPS",
            f"-DMB_FIXED_WIDTH={gpu_width}",
            f"-DMB_THREADS={gpu_threads}",
            f"-DMB_ARGUMENTS_BYTES={ctypes.sizeof(Arguments)}",
        )
        flags: tuple[str, ...] = ("-std=c++17", "-O0", "-g1", *WARNINGS, f"-fsanitize={sanitizer}", f"-I{SOURCES}")
        flags += (f"-DMB_REAL={build.REALS[real]}", *(("-DMB_EMULATE",) if gpu_width is None else device))
        flags += ("-DMB_STORE_BF16",) if store == "bfloat16" else ()
        flags += ("-DMB_DENSE",) if dense else ()
        self.file, self.packed, self.cluster = folder / "call", packed, cluster
        self.program = Program(_built(flags), self.file)
        self.cluster_program = Program(_built((*flags, f"-DMB_CLUSTER={cluster}")), self.file) if cluster else self.program
        self.calls: dict[str, list[bytes]] = {}  # by entry point, of the last use of `instead`
        self.sites: dict[str, list[str]] = {}  # "FILE LINE"

    def run(self, entry: str, layout: Layout, tensors: list[Tensor], sizes: Sequence[int]) -> None:
        """As `call.run`."""
        arguments = pack(layout, tensors, sizes)
        parts: dict[str, Buffer] = {}
        allocations = itertools.count()
        for number, (held, tensor) in enumerate(zip(layout.tensors, tensors, strict=True)):
            whole = tensor.data.view(-1).view(torch.uint8)  # as a real call, it does not count as a change in place
            ends = [*(first for _, first in held.buffers[1:]), None][: len(held.buffers)]  # a block may hold none
            for (name, first), end in zip(held.buffers, ends, strict=True):
                part = whole[first:end]
                # of a name that is given twice, the last counts, as in a real call
                parts[name] = Buffer(part, number, len(whole), first) if self.packed else Buffer(part, next(allocations), len(part), 0)
        raw = {name: parts[name] for name in KINDS if name in parts}
        for name in call.schedule(entry, arguments):
            self.execute(name, arguments, raw)

    def execute(self, entry: str, arguments: Arguments, raw: Mapping[str, Buffer]) -> None:
        """One call: the bytes of each buffer go through a file, changed where they are written; SanitizerError with the report."""
        with self.file.open("wb") as file:
            file.write(len(SIZES).to_bytes(8, "little"))
            for name in KINDS:
                buffer = raw.get(name)
                numbers = [getattr(arguments, name) if name in SIZES else -1] if buffer is None else [len(buffer.content), *buffer[1:]]
                for number in numbers:
                    file.write(number.to_bytes(8, "little", signed=True))
                if buffer is not None:
                    file.write(buffer.content.numpy().tobytes())
        self.calls.setdefault(entry, []).append(self.file.read_bytes())
        sites = self._run(entry)
        self.sites[entry] = sorted({*self.sites.get(entry, []), *sites})
        with self.file.open("rb") as file:
            for content, *_ in raw.values():
                if len(content):
                    content.copy_(torch.frombuffer(bytearray(file.read(len(content))), dtype=torch.uint8))

    def misses(self, entry: str, site: str) -> bool:
        """Whether no error is found in the calls of an entry point without the barrier at a place, or, for the GPU, those of warps."""
        for content in self.calls[entry]:
            self.file.write_bytes(content)
            try:
                self._run(entry, site)
            except SanitizerError as error:
                if error.exit_code == FOUND:
                    return False
        return True

    def assert_every_barrier_matters(self, entries: set[str], with_barriers: set[str]) -> None:
        """These entry points have been called, some of them have barriers, and without any one of these a race is found."""
        assert set(self.sites) >= entries
        assert all(self.sites[entry] for entry in with_barriers)
        assert [site for entry in entries for site in self.sites[entry] if self.misses(entry, site)] == []

    def _run(self, entry: str, site: str = "") -> list[str]:
        program = self.cluster_program if entry.endswith(driver.CLUSTER) else self.program
        return program.call(entry, site)

    @contextmanager
    def instead(self) -> Iterator["Emulator"]:
        """Let native calls of models and ops run in the emulator."""

        self.calls.clear()
        self.sites.clear()
        emulated = partial(Build, emulate=True)
        builds = [patch.object(module, "Build", emulated) for module in (ops.operator, native, dense_native, slot_steps)]
        sharing = patch.object(clusters, "bytes_of_pass", self._shared_bytes)
        caches = (call.scratch, plan.plan, dense.plan, native.build_for, dense_native.build_for)  # each build needs its own
        for cache in caches:
            cache.cache_clear()
        try:
            with ExitStack() as stack, patch.object(call, "run", self.run), sharing:
                for change in builds:
                    stack.enter_context(change)
                yield self
        finally:
            for cache in caches:
                cache.cache_clear()

    def _shared_bytes(self, which: Build, size: Mapping[str, int], device: torch.device) -> int:
        return clusters.shared_bytes(which, size, self.cluster) if self.cluster else 0


def _name(flags: tuple[str, ...]) -> str:
    """The name of the program in the cache: another one if flags, compiler or any source changes."""
    kernels = [part for file in sorted(SOURCES.rglob("*.*")) for part in (str(file.relative_to(SOURCES)), file.read_text())]
    return f"{build.build_hash(MAIN, *flags, build.version(build.compiler()), *kernels)}.exe"


def _built(flags: tuple[str, ...]) -> Path:
    """The program built with these flags, if it is not in the cache."""
    command = build.compiler()
    return build.cached(_name(flags), lambda made: build.compile_with(command, *flags, str(MAIN), "-lpthread", "-o", str(made)))
