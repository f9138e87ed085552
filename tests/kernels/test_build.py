"""The build cache: it holds valid libraries whatever happens to a compile; without a compiler there is a fallback with a reason.

A stand-in for the compiler hands out a library that the real one has made, slowly or wrongly.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.kernels.native import build
from mann_bench.machine import software
from mann_bench.machine.environment import fingerprint
from mann_bench.models import SAM
from mann_bench.run.replies import Prepared
from mann_bench.run.worker import Worker, answer

LOAD = "from mann_bench.kernels.native import build; print(build.load().mb_arguments_bytes())"
STAND_IN = """#!/bin/sh
[ "$1" = --version ] && echo "stand-in 1.0" && exit
echo compile >> {log}
while [ "$1" != -o ]; do shift; done
{body}
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MANN_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def library():
    """A valid library, compiled before any test changes the cache."""
    if build.why_not() is not None:
        pytest.skip(f"no native kernels: {build.why_not()}")
    return build.build(build.flags())


@pytest.fixture
def stand_in(library, tmp_path, cache, monkeypatch):
    """Install a compiler that runs `body`, a shell script in which $2 is the output and $LIBRARY a valid library; return its log."""

    def install(body):
        script, log = tmp_path / "compiler", tmp_path / "log"
        script.write_text(STAND_IN.format(log=log, body=f"LIBRARY={library}\n{body}"))
        script.chmod(0o755)
        log.write_text("")
        monkeypatch.setenv("CXX", str(script))
        return log

    return install


def start():
    return subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def load():
    return build.load.__wrapped__()


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def libraries(cache):
    return [path.name for path in cache.iterdir() if path.suffix == ".so"]


needs_compiler = pytest.mark.skipif(not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no compiler")


@needs_compiler
def test_the_kernels_build_where_there_is_a_compiler():
    assert build.why_not() is None


@needs_compiler
@pytest.mark.parametrize(
    ("real", "store", "dense"),
    [("float32", None, False), ("float64", None, False), ("float32", "bfloat16", False), ("float32", None, True), ("float64", None, True)],
)
@pytest.mark.parametrize("processor", ["this one", "x86-64", "x86-64-v3", "x86-64-v4"])  # the last two have AVX2 and AVX-512
def test_the_cpu_build_has_no_warnings(real, store, dense, processor):
    if processor != "this one" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("a compiler for other processors")
    flags = ("-Wall", "-Wextra", "-Werror", "-fsyntax-only", *([] if processor == "this one" else [f"-march={processor}"]))
    build.compile_with(build.compiler(), *build.flags(real, store, dense=dense), *flags, f"-I{build.SOURCES}", str(build.MAIN))


def test_an_interrupted_compile_leaves_nothing_half_made(stand_in, cache):
    log = stand_in('head -c 5000 "$LIBRARY" > "$2"; sleep 60')
    process = start()
    wait_for(log)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert libraries(cache) == []
    stand_in('cp "$LIBRARY" "$2"')
    assert load().mb_arguments_bytes() > 0
    assert len(libraries(cache)) == 1


def test_of_processes_that_build_at_once_one_does_and_all_get_a_sound_library(stand_in, cache):
    log = stand_in('head -c 5000 "$LIBRARY" > "$2"; sleep 1; cp "$LIBRARY" "$2"')
    processes = [start() for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert log.read_text().splitlines() == ["compile"]
    assert len(list(cache.iterdir())) == 1
    assert build.is_sound(cache / libraries(cache)[0])


def test_nobody_waits_forever_for_another_build(tmp_path, monkeypatch):
    """One may have been stopped; and not every file system has locks."""
    target = tmp_path / "some.so"
    with build.alone(target), build.alone(target, wait_s=0.1):
        assert [path.name for path in tmp_path.iterdir()] == ["build-some.so.lock"]
    monkeypatch.setattr(build.fcntl, "flock", lambda *_: os.stat(tmp_path / "an error of the system"))
    with build.alone(target), build.alone(target):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[: len(content) // 2], lambda content: content[:9000] + b"!" + content[9001:]],
    ids=["empty", "cut off", "one byte"],
)
def test_a_damaged_library_is_built_again(stand_in, cache, damage):
    log = stand_in('cp "$LIBRARY" "$2"')
    path = build.build(build.flags())
    path.write_bytes(damage(path.read_bytes()))
    assert not build.is_sound(path)
    assert load().mb_arguments_bytes() > 0
    assert build.is_sound(path)
    assert log.read_text().splitlines() == ["compile", "compile"]


def test_a_file_that_is_not_a_library_is_reported(stand_in):
    stand_in('echo nonsense > "$2"')
    with pytest.raises(build.BuildError, match="cannot be loaded"):
        load()


def test_a_compile_error_quotes_the_compiler(stand_in, cache):
    stand_in('echo "host.cpp:1: error: no such luck" >&2; exit 1')
    with pytest.raises(build.BuildError, match=r"compiler could not compile the kernels: host.cpp:1: error: no such luck"):
        load()
    assert list(cache.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_reported(stand_in, cache):
    stand_in('cp "$LIBRARY" "$2"')
    cache.write_text("a file")
    with pytest.raises(build.BuildError, match="set MANN_BENCH_CACHE to a folder of yours"):
        load()


def test_a_folder_that_others_can_write_to_is_not_used(stand_in, cache, monkeypatch):
    log = stand_in('cp "$LIBRARY" "$2"')
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(build.BuildError, match=r"cache: expected a folder of this user's that no other can write to.*chmod 700"):
        load()
    cache.chmod(0o700)
    monkeypatch.setattr(build.os, "geteuid", lambda: cache.stat().st_uid + 1)
    with pytest.raises(build.BuildError, match="expected a folder of this user's"):
        load()
    assert log.read_text() == ""
    assert list(cache.iterdir()) == []


def test_a_library_that_others_can_write_is_built_again(stand_in, cache):
    """Under a umask that lets everybody write, neither the folder nor the library is writable for others."""
    log = stand_in('cp "$LIBRARY" "$2"; chmod 777 "$2"')
    before = os.umask(0)
    try:
        path = build.build(build.flags())
        assert [cache.stat().st_mode & 0o777, path.stat().st_mode & 0o777] == [0o700, 0o700]
        path.chmod(0o666)
        assert build.build(build.flags()) == path
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o700
    assert log.read_text().splitlines() == ["compile", "compile"]


def test_what_killed_builds_left_is_removed(stand_in, cache):
    stand_in('cp "$LIBRARY" "$2"')
    cache.mkdir(mode=0o700)
    (cache / "build-gone").symlink_to(cache / "taken away by another build")
    (cache / "build-old.lock").touch()
    os.utime(cache / "build-old.lock", (time.time() - 3600, time.time() - 3600))
    for name, age_s in (("build-old", 3600), ("build-young", 60)):
        (cache / name).mkdir()
        (cache / name / "half").write_text("")
        os.utime(cache / name, (time.time() - age_s, time.time() - age_s))
    path = build.build(build.flags())
    assert {left.name for left in cache.iterdir()} == {"build-young", "build-gone", path.name}


@pytest.mark.parametrize("chosen", ["/nowhere/g++", "no-such-compiler -O2", "", '"unfinished', "{text}"])
def test_a_compiler_that_cannot_be_run_is_reported(chosen, cache, tmp_path, monkeypatch):
    (tmp_path / "text").write_text("not to be executed")
    monkeypatch.setenv("CXX", chosen.format(text=tmp_path / "text") or " ")
    with pytest.raises(build.BuildError, match=r"CXX: expected a C\+\+ compiler, got .*; correct it or unset it"):
        load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\nsleep 60", "did not end within 0.2 s; set CXX to another one"),
        ("#!/nowhere/sh", "cannot be run: .*; set CXX to another one"),
        ("#!/bin/sh\necho out of order >&2; exit 3", "fails when asked for its --version: out of order; set CXX to another one"),
    ],
    ids=["hangs", "without interpreter", "fails"],
)
def test_a_compiler_without_a_version_is_asked_once(text, message, cache, tmp_path, monkeypatch):
    script = tmp_path / "my c++"
    script.write_text(text)
    script.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{script}' -m64")
    monkeypatch.setattr(build, "VERSION_S", 0.2)
    for _ in range(2):
        with pytest.raises(build.BuildError, match=f"the compiler '.*my c\\+\\+' -m64 {message}"):
            load()
    monkeypatch.setattr(build, "run_compiler", None)
    assert fingerprint()["kernel_build"] is None


def test_compiler_output_in_any_encoding(stand_in):
    stand_in("printf 'error: \\377\\n' >&2; exit 1")
    with pytest.raises(build.BuildError, match="could not compile the kernels: error: \N{REPLACEMENT CHARACTER}"):
        load()


ARM = "processor\t: {0}\nFeatures\t: fp asimd {1}\nCPU implementer\t: 0x41\nCPU variant\t: 0x1\nCPU part\t: {2}\n\n"


def test_processors_with_other_features_have_other_names(monkeypatch):
    names = []
    texts = [ARM.format(0, *core) for core in (("crc32", "0xd0c"), ("sve", "0xd0c"), ("crc32", "0xd4f"))]
    for text in (*texts, ARM.format(0, "crc32", "0xd0c") + ARM.format(1, "crc32", "0xd4f"), "model name\t: Z\nflags\t: avx\n"):
        monkeypatch.setattr(build.Path, "read_text", lambda path, text=text: text)
        names.append(build.processor.__wrapped__())
    assert len(set(names)) == 5
    assert names[0].endswith("|fp asimd crc32|0x41|0x1|0xd0c||")


def test_the_hash_follows_source_flags_and_compiler(tmp_path):
    (tmp_path / "a.h").write_text("int a;")
    (tmp_path / "main.cpp").write_text("int b;")
    hashes = [build.build_hash(tmp_path / "main.cpp", *settings) for settings in (("-O3", "g++ 12"), ("-O2", "g++ 12"), ("-O3", "g++ 13"))]
    (tmp_path / "a.h").write_text("int c;")
    hashes.append(build.build_hash(tmp_path / "main.cpp", "-O3", "g++ 12"))
    assert len(set(hashes)) == 4


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.setattr(build, "why_not", build.why_not.__wrapped__)
    monkeypatch.setattr(build, "load", build.load.__wrapped__)


def test_without_a_compiler_torch_runs_with_one_warning_and_a_recorded_reason(no_compiler, cache):
    assert fingerprint()["kernel_build"] is None
    model = SAM(input_size=3, output_size=2, slots=8, kernels="native")
    with pytest.warns(RuntimeWarning, match=r"runs as 'torch': no C\+\+ compiler found: install g\+\+"):
        assert model.backend["kernels"] == "torch"
    assert SAM(input_size=3, output_size=2, slots=8, kernels="auto").backend["kernels"] == "torch"


@pytest.mark.parametrize("model", ["sam", "op:sparse_read"])
def test_the_reason_of_a_fallback_is_part_of_the_result(no_compiler, monkeypatch, model):
    monkeypatch.setattr("mann_bench.run.worker.limit_memory", lambda *limits: None)
    command = {"do": "prepare", "case": Case(suite="s", model=model, slots=64).model_dump(), "memory_bytes": 2**30, "warmup_s": 0.01}
    reply = answer(Worker(), command)
    torch.set_num_threads(1)
    assert isinstance(reply, Prepared)
    assert reply.backend.kernels == "torch"
    assert reply.reason is not None
    assert reply.reason.startswith("kernels=auto runs as torch: no C++ compiler found")


def test_the_fingerprint_has_the_build():
    if build.why_not() is None:
        assert fingerprint()["kernel_build"] == build.build(build.flags()).stem


def test_a_user_without_a_home_folder_is_told_of_the_variable(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "MANN_BENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    for asks in (build.cache_folder, lambda: build.build(build.flags())):
        with pytest.raises(build.BuildError, match="no home folder; set MANN_BENCH_CACHE"):
            asks()
    assert software.kernel_build() is None
