"""The native libraries that cases may load, compiled before the time of any case begins."""

import contextlib
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from mann_bench.data.case import Case
from mann_bench.data.registry import NATIVE_CHECKPOINTED, SHIPPED
from mann_bench.kernels.native import build, extension


class NativeBuild(NamedTuple):
    """A native library: for rows of a type, of models with a dense memory or of all others."""

    dtype: str
    dense: bool = False


class UsesKernels(Protocol):
    """What decides which native library runs: of a case, and of a training run."""

    @property
    def model(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def kernels(self) -> str: ...
    @property
    def device(self) -> str: ...


def build_of(case: UsesKernels, dtype: str) -> NativeBuild | None:
    """The native library that a case may load on the CPU; None if it has none to load."""
    entry = SHIPPED.get(case.model)
    if case.kernels == "torch" or (entry is not None and (entry.package or not entry.native)):
        return None
    if entry is None or entry.native == "sparse":
        return NativeBuild(dtype)
    native = case.kernels == "native" or case.variant in ("plain", NATIVE_CHECKPOINTED)
    return NativeBuild(dtype, dense=True) if native and case.device == "cpu" and dtype != "bfloat16" else None


def needed_builds(cases: Iterable[Case]) -> set[NativeBuild]:
    """The native libraries that cases may load."""
    return {needed for case in cases if (needed := build_of(case, case.dtype))}


def build_kernels(needed: Iterable[NativeBuild]) -> None:
    """Compile the native kernels that are not in the cache yet, and for sparse models the node in torch's graph, so that no case's time
    goes into it. Cases tell why it cannot be.
    """
    for dtype, dense in needed:
        real, store = ("float32", dtype) if dtype == "bfloat16" else (dtype, None)
        with contextlib.suppress(build.BuildError):
            build.build(build.flags(real, store, dense=dense))
            if not dense:
                extension.library()
