"""Cubins made beforehand: found by their source, used before any compiler, refused if they are of another one. nvcc is a stand-in."""

import shutil

import pytest

from mann_bench.kernels.native import build, carried, cubin

NVCC = """#!/bin/sh
[ "$1" = --version ] && echo "stand-in 13.0" && exit
all="$*"
while [ "$1" != -o ]; do shift; done
echo "cubin: $all" >"$2"
"""
TYPES = ("float32-float32", "float64-float64", "float32-bfloat16")
NAMES = [f"sm_90{blocks}-{types}-{width}" for blocks in ("", "-cluster4") for types in TYPES for width in ("32", "any")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where cubins are made; nvcc is the only compiler, and the cache is empty."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(NVCC)
    nvcc.chmod(0o755)
    monkeypatch.setattr(cubin, "compiler", cubin.nvcc)
    monkeypatch.setattr(shutil, "which", lambda name: str(nvcc))
    monkeypatch.setenv("MANN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(carried.VARIABLE, raising=False)
    return tmp_path / "cubins"


def build_into(call, folder, arch="sm_90"):
    return call("build-kernels", "--arch", arch, "--out", folder)


def no_compiler():
    raise build.BuildError("no CUDA compiler")


@pytest.fixture
def taken_there(call, folder, tmp_path, monkeypatch):
    """The cubins on another machine: with an empty cache, and without a compiler."""
    assert build_into(call, folder).returncode == 0
    monkeypatch.setattr(cubin, "compiler", no_compiler)
    monkeypatch.setenv("MANN_BENCH_CACHE", str(tmp_path / "cache there"))
    monkeypatch.setenv(carried.VARIABLE, str(folder))
    return folder


def test_one_cubin_for_each_number_type_and_word_size(call, folder):
    done = build_into(call, folder)
    assert done.returncode == 0
    assert sorted(path.name.rpartition("-")[0] for path in folder.iterdir()) == sorted(NAMES)
    assert carried.VARIABLE in done.stdout
    assert build_into(call, folder).returncode == 0  # again: no second set
    assert len(list(folder.iterdir())) == len(NAMES)


@pytest.mark.parametrize(
    ("kind", "macros"),
    [
        (("float32", "float32", 32), ["MB_REAL=float", "MB_FIXED_WIDTH=32"]),
        (("float64", "float64", 5), ["MB_REAL=double", "MB_FIXED_WIDTH=0"]),
        (("float32", "bfloat16", 32), ["MB_REAL=float", "MB_STORE_BF16"]),
        (("float32", "float32", 32, 4), ["MB_REAL=float", "MB_CLUSTER=4"]),
    ],
)
def test_a_carried_cubin_needs_no_compiler(kind, macros, taken_there):
    content = cubin.compile_kernels("sm_90", *kind).read_text()
    assert content.startswith("cubin: ")
    assert content.endswith("device.cu\n")  # without the checksum
    assert all(f"-D{macro} " in content for macro in macros)


def test_a_cubin_of_another_source_is_refused(taken_there, tmp_path, monkeypatch):
    other = tmp_path / "device.cu"
    other.write_text(cubin.MAIN.read_text() + "// another source\n")
    monkeypatch.setattr(cubin, "MAIN", other)
    with pytest.raises(build.BuildError, match=r"sm_90-float32-float32-32.*of another.*build-kernels.*unset MANN_BENCH_CUBINS"):
        cubin.compile_kernels("sm_90")


def test_other_settings_are_another_source(taken_there, monkeypatch):
    monkeypatch.setattr(cubin, "THREADS", 256)
    with pytest.raises(build.BuildError, match="of another"):
        cubin.compile_kernels("sm_90")


def test_a_cubin_that_was_cut_off_is_refused(taken_there):
    for path in taken_there.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(build.BuildError, match="damaged or cut off"):
        cubin.compile_kernels("sm_90")


def test_another_architecture_is_compiled(taken_there):
    with pytest.raises(build.BuildError, match="no CUDA compiler"):
        cubin.compile_kernels("sm_80")


def test_a_folder_that_is_not_there_is_named(taken_there, monkeypatch):
    monkeypatch.setenv(carried.VARIABLE, "/no/such")
    with pytest.raises(build.BuildError, match="expected a folder of cubins, got '/no/such'"):
        cubin.compile_kernels("sm_90")


def test_an_architecture_without_clusters_has_none(call, folder):
    assert build_into(call, folder, "sm_80").returncode == 0
    assert len(list(folder.iterdir())) == len(NAMES) / 2


def test_messages_of_the_command(call, folder, monkeypatch):
    done = build_into(call, folder, "h100")
    assert done.returncode == 2
    assert "expected an architecture such as sm_90, got 'h100'" in done.stderr
    monkeypatch.setattr(cubin, "compiler", no_compiler)
    done = build_into(call, folder)
    assert done.returncode == 1
    assert "no CUDA compiler" in done.stderr
