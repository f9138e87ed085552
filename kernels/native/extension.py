"""Compiles `csrc/node/node.cpp`, which needs the headers of torch and of Python. Loads neither."""

import platform
import sysconfig
from importlib import metadata, util
from pathlib import Path

from mann_bench.kernels.native.build import BuildError, build
from mann_bench.kernels.native.headers import SOURCES

MAIN = SOURCES / "node" / "node.cpp"
PYTHON_HEADERS = Path(sysconfig.get_path("include"))
LIBRARIES = ("-ltorch_python", "-ltorch_cpu", "-lc10")


def library() -> Path:
    """The library, compiled if it is not in the cache; BuildError if it cannot be."""
    if not (PYTHON_HEADERS / "Python.h").is_file():
        raise BuildError(f"there are no headers of Python in {PYTHON_HEADERS}: install them, as python3-dev")
    found = util.find_spec("torch")
    if found is None or found.origin is None:
        raise BuildError("there is no torch")
    torch = Path(found.origin).parent
    folders = (torch / "include", torch / "include/torch/csrc/api/include", PYTHON_HEADERS)
    # As one of the flags, the versions decide whether a library in the cache can be used.
    versions = f"-DMB_MADE_FOR={platform.python_implementation()}-{platform.python_version()}-torch-{metadata.version('torch')}"
    flags = ("-std=c++20", "-O1", "-fPIC", "-shared", versions, *(f"-isystem{folder}" for folder in folders))
    return build(flags, MAIN, (f"-L{torch / 'lib'}", *LIBRARIES))
