"""Examine this machine: each part that measurements may use, whether it is there, and what to install if not."""

import importlib
import time
import warnings
from typing import NamedTuple

import torch

from mann_bench.data.conditions import Gpu
from mann_bench.data.units import format_bytes
from mann_bench.kernels.index import find_index
from mann_bench.kernels.native import build, driver, node
from mann_bench.kernels.native import cubin as cuda
from mann_bench.kernels.native.build import BuildError
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence import cluster
from mann_bench.machine import environment

SIZES = {"hidden": 100, "width": 32, "heads": 4, "interface_size": 268}  # of SAM in the paper, from which the room of a cluster follows


class Finding(NamedTuple):
    """One part: `state` is "ok", "missing" or "note"; of the self-test also "noise", where an interval is too wide to say, or "failed"."""

    part: str
    state: str
    detail: str


def examine() -> list[Finding]:
    """Examine all parts, the essential ones first."""
    facts = environment.fingerprint()
    limit = facts["memory_limit_bytes"]
    quota = f", a quota of {facts['cpu_quota']:g} processors" if facts["cpu_quota"] is not None else ""
    memory = format_bytes(facts["ram_bytes"]) + (f", this process may use {format_bytes(limit)}" if limit else "")
    findings = [
        Finding("python", "ok", facts["python"]),
        Finding("torch", "ok", facts["torch"]),
        Finding("cpu", "ok", f"{facts['cpu']}, {facts['usable_threads']} of {facts['threads']} threads usable{quota}"),
        Finding("memory", "ok", memory),
        _huge_pages(facts["huge_pages"]),
    ]
    if facts["gpus"]:
        findings += [_gpu(gpu) for gpu in facts["gpus"]]
    else:
        findings.append(Finding("gpu", "missing", "no NVIDIA driver: cases on cuda are recorded as unavailable"))
    if facts["compiler"]:
        findings.append(Finding("c++ compiler", "ok", facts["compiler"]))
    else:
        findings.append(Finding("c++ compiler", "missing", "install g++ or clang++ (or set CXX); without one only kernels=torch runs"))
    findings += [_native_kernels(), _autograd_node(), _cuda_compiler(), _cuda_kernels(), _clusters(), _faiss(), _faiss_gpu()]
    return findings


def _gpu(facts: Gpu) -> Finding:
    memory = format_bytes(facts["memory_bytes"]) if facts["memory_bytes"] is not None else "memory unknown"
    return Finding("gpu", "ok", f"{facts['name']}, {memory}, driver {facts['driver']}")


def _huge_pages(setting: str | None) -> Finding:
    if setting in ("always", "madvise"):
        return Finding("huge pages", "ok", setting)
    return Finding(
        "huge pages",
        "note",
        f"{setting or 'unknown'}: large memories are slower; echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    )


def _native_kernels() -> Finding:
    """Load the native kernels; they are built if they are not in the cache."""
    began = time.monotonic()
    try:
        path = build.library_path(build.flags())
        in_cache = path.is_file()
        build.load()
    except BuildError as error:
        return Finding("native kernels", "missing", f"{error}; models and ops run as kernels=torch")
    when = "in the cache" if in_cache else f"built in {time.monotonic() - began:.0f} s"
    return Finding("native kernels", "ok", f"build {path.stem} by {build.compiler()}, {when}: {path.parent}")


def _autograd_node() -> Finding:
    """Load the node in torch's graph that passes of the sparse models are; it is built if it is not in the cache."""
    if reason := node.why_not():
        return Finding("autograd node", "missing", f"{reason}; short passes of SAM and SDNC take a tenth longer")
    return Finding("autograd node", "ok", "compiled for this torch")


def _cuda_compiler() -> Finding:
    try:
        return Finding("cuda compiler", "ok", cuda.compiler().version.strip().splitlines()[-1])
    except BuildError as error:
        return Finding("cuda compiler", "missing", f"only needed for kernels on a GPU: {error}")


def _cuda_kernels() -> Finding:
    reason = driver.why_not()
    return Finding("cuda kernels", "missing", reason) if reason else Finding("cuda kernels", "ok", "built for this GPU")


def _clusters() -> Finding:
    """Whether clusters of blocks step the sparse models of the paper's size on the GPU, and what the environment asks for."""
    part, blocks = "gpu clusters", f"{cuda.CLUSTER_BLOCKS} blocks of a GPU for each element of a batch"
    try:
        asked = cluster.asked()
    except ValueError as error:
        return Finding(part, "note", str(error))
    if asked in cluster.ONE_BLOCK:
        return Finding(part, "note", f"{cluster.VARIABLE}={asked}: one block of a GPU for each element of a batch")
    if reason := driver.why_not():
        return Finding(part, "missing", reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the finding says the same
        found = cluster.room(Build(), SIZES, torch.device("cuda", 0))
    if found.reason is not None:
        return Finding(part, "missing" if found.is_fault else "note", f"one block of a GPU for each element of a batch: {found.reason}")
    return Finding(part, "ok", f"{blocks} of SAM, up to {found.elements} elements" + (f"; {cluster.VARIABLE}={asked}" if asked else ""))


def _faiss() -> Finding:
    try:
        return Finding("faiss", "ok", str(importlib.import_module("faiss").__version__))
    except ImportError as error:
        return Finding("faiss", "missing", f"{error}; pip install 'mann-bench[cpu]' (or [gpu], never both)")


def _faiss_gpu() -> Finding:
    reason = find_index("faiss-gpu-exact").why_not("cuda")
    return Finding("faiss on a gpu", "missing" if reason else "ok", reason or "indexes faiss-gpu-exact, faiss-gpu-ivf")
