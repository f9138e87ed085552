"""The software of this machine: compiler, native library, packages, and the kernel's setting for huge pages."""

from importlib import metadata
from pathlib import Path

PEERS = ("product-key-memory", "fast-weight-product-key-memory", "fla-core", "titans-pytorch", "dnc", "sparse-delta-memory")
PACKAGES = (
    "mann-bench",
    "torch",
    "numpy",
    "pandas",
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "cuda-core",
    "triton",
    "nvidia-ml-py",
    *PEERS,
)


def compiler() -> str | None:
    """First line of what the C++ compiler says of its version; None without a compiler."""
    from mann_bench.kernels.native import build

    try:
        return build.version(build.compiler()).partition("\n")[0]
    except build.BuildError:
        return None


def kernel_build() -> str | None:
    """Name of the native library in the cache: a hash of source, flags, compiler and processor. None without a compiler."""
    from mann_bench.kernels.native import build

    try:
        return build.library_path(build.flags()).stem
    except build.BuildError:
        return None


def package_versions() -> dict[str, str]:
    """Versions of the packages that matter, of those that are installed."""
    return {name: version for name in PACKAGES if (version := _installed_version(name))}


def huge_pages() -> str | None:
    """The kernel's setting for transparent huge pages: always, madvise or never."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.read_text().partition("[")[2].partition("]")[0] if setting.is_file() else None


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
