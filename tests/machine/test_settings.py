"""Settings of workers, and the allocator and variables that are in force."""

import os
from pathlib import Path

import pytest

from mann_bench.machine.settings import ALLOCATOR, allocator_library, loaded_libraries, variables, worker_environment

MAPS = """\
55d0a4a00000-55d0a4a01000 r--p 00000000 fe:00 1234                       /usr/bin/python3.11
7f0000000000-7f0000001000 r-xp 00000000 fe:00 1235                       /opt/my libraries/lib{allocator}.so.2
7f0000001000-7f0000002000 r--p 00001000 fe:00 1235                       /opt/my libraries/lib{allocator}.so.2
7f0000002000-7f0000003000 r-xp 00000000 fe:00 1236                       /lib/x86_64-linux-gnu/libc.so.6
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
"""


def test_worker_environment_holds_threads():
    assert worker_environment(3)["OMP_NUM_THREADS"] == "3"


def test_where_a_worker_imports_from(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert worker_environment(1, [Path("/code")])["PYTHONPATH"] == os.pathsep.join(["/code", "/mine"])
    assert worker_environment(1, [Path("/code")], "/moved")["PYTHONPATH"] == os.pathsep.join(["/code", "/moved"])
    assert worker_environment(1, python_path="")["PYTHONPATH"] == ""


@pytest.mark.parametrize("name", ["jemalloc", "tcmalloc_minimal", "mimalloc-secure"])
def test_an_allocator_that_is_loaded_is_named(tmp_path, name):
    (tmp_path / "maps").write_text(MAPS.format(allocator=name))
    libraries = loaded_libraries(tmp_path / "maps")
    assert libraries == sorted([f"lib{name}.so.2", "libc.so.6"])
    assert allocator_library(libraries) == f"lib{name}.so.2"


def test_without_another_allocator_the_c_library_allocates(tmp_path):
    assert allocator_library(loaded_libraries(tmp_path / "not-linux")) == "libc"
    assert allocator_library(["libc.so.6", "libtorch_cpu.so"]) == "libc"


def test_variables_in_force_are_those_that_change_what_runs():
    users = {
        "OMP_PROC_BIND": "true",
        "LD_PRELOAD": "/lib/x\udcff.so",
        "CUDA_VISIBLE_DEVICES": "1",
        "AWS_SECRET_KEY": "s",
        "TORCH_HOME": "/",
    }
    environment = {**users, **worker_environment(2), "OMP_NUM_THREADS": "2", **ALLOCATOR}
    found = variables(environment)
    assert {name: found[name] for name in users if name in found} == {
        "OMP_PROC_BIND": "true",
        "LD_PRELOAD": r"/lib/x\udcff.so",
        "CUDA_VISIBLE_DEVICES": "1",
    }
    assert not {*ALLOCATOR, "OMP_NUM_THREADS", "AWS_SECRET_KEY", "TORCH_HOME"} & set(found)
