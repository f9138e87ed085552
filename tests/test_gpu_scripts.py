"""The scripts for a machine with a GPU, with a stand-in for Python that writes down how it was called: an error there costs GPU time."""

import importlib
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import psutil
import pytest

from mann_bench.kernels.sequence import cluster

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = """#!/bin/sh
echo "cubins=${{MANN_BENCH_CUBINS:-}} $*" >>{log}
case "$*" in
{cases}
esac
case "$*" in
    *" run "*)
        while [ "$1" != --out ]; do shift; done
        mkdir -p "$2" && echo {{}} >"$2/run.json" && echo {{}} >>"$2/results.jsonl" ;;
    *doctor*) echo "doctor speaks" ;;
esac
"""


class Machine:
    """A folder with a stand-in for Python: `cases` are branches of a shell's `case` over its arguments."""

    def __init__(self, folder):
        self.folder, self.log, self.out = folder, folder / "log", folder / "gpu"
        self.archive = folder / "all.tgz"

    def environment(self, cases="", **variables):
        python = self.folder / "python"
        python.write_text(STAND_IN.format(log=self.log, cases=cases))
        python.chmod(0o755)
        named = {"PYTHON": python, "MANN_BENCH_GPU_OUT": self.out, "ARCHIVE": self.archive, "BUNDLE": self.folder / "bundle", **variables}
        return {**os.environ, **{name: str(value) for name, value in named.items()}}

    def run(self, *stages, cases="", **variables):
        environment = self.environment(cases, **variables)
        return subprocess.run([ROOT / ".ci" / "gpu", *stages], env=environment, capture_output=True, text=True, timeout=100)

    def calls(self):
        return [line for line in self.log.read_text().splitlines() if line.startswith("cubins=")]

    def packed(self):
        with tarfile.open(self.archive) as archive:
            return archive.getnames()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def first_call(calls, *words):
    return next(number for number, call in enumerate(calls) if all(word in call for word in words))


def test_stages_run_in_order_and_everything_is_packed(machine):
    foreign = machine.folder / "foreign"
    foreign.mkdir()
    done = machine.run(OUT=foreign)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(foreign.iterdir())  # a borrowed machine may have set OUT for itself
    calls = machine.calls()
    order = [
        first_call(calls, "gpu_kernels.py"),
        first_call(calls, "doctor"),
        first_call(calls, "gpu_contact.py"),
        first_call(calls, "gpu_contact.py cuda:0 clusters"),
        first_call(calls, "tests/cuda ", "-W default", "--deselect"),  # plugins of another machine may warn
        first_call(calls, "run gpu-first"),
        first_call(calls, "profile sam"),
        first_call(calls, "profile ntm"),
        first_call(calls, "run gpu "),
        first_call(calls, "profile dnc"),
    ]
    assert order == sorted(order)
    for tool in ("memcheck", "racecheck", "synccheck"):  # they run side by side with the tests
        for kernels in ("not clusters", "clusters"):
            assert order[3] < first_call(calls, f"-k {tool} and {kernels}") < order[5]
    for name in ("machine/doctor.txt", "contact/numbers.txt", "first/run/results.jsonl", "full/report.txt"):
        assert f"gpu/{name}" in machine.packed()


def test_one_stage_and_a_second_call(machine):
    for number in range(2):
        assert machine.run("first").returncode == 0
        run = [call for call in machine.calls() if " run gpu-first " in call][-1]
        assert ("--resume" in run) == (number == 1)
    assert not any("-m pytest" in call or "run gpu " in call for call in machine.calls())


@pytest.mark.parametrize(("cases", "code"), [("*pytest*synccheck*) exit 1 ;;", 1), ("*gpu-first*) exit 1 ;;", 1), ("-c*) exit 1 ;;", 2)])
def test_exit_codes(cases, code, machine):
    assert machine.run("contact", "first", cases=cases).returncode == code
    assert any("profile ntm" in call for call in machine.calls()) == (code == 1)  # what fails does not keep the rest from running


def test_an_unknown_stage_is_told(machine):
    done = machine.run("last")
    assert (done.returncode, machine.log.exists()) == (2, False)
    assert "expected stages contact, first, full; got last" in done.stderr


def test_a_suite_that_time_ends_is_no_failure_and_other_parts_are(machine):
    done = machine.run("first", cases='*" run gpu-first "*) exit 124 ;;')  # as `timeout` says it
    assert done.returncode == 0
    assert "call again to go on" in done.stdout
    assert machine.run("contact", cases="*memcheck*) exit 124 ;;").returncode == 1


def test_without_time_nothing_runs(machine):
    done = machine.run("full", MINUTES=0)
    assert "gpu: left out, the time is used up" in done.stdout
    assert all(" -c " in call for call in machine.calls())


def test_a_killed_call_leaves_what_it_found(machine):
    process = subprocess.Popen(
        [ROOT / ".ci" / "gpu", "contact"],
        env=machine.environment("*gpu_contact.py*) echo half; exec sleep 60 ;;"),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    half = machine.out / "contact" / "numbers.txt"
    for _ in range(600):
        if half.exists() and half.read_text():
            break
        time.sleep(0.05)
    for started in [script := psutil.Process(process.pid), *script.children(recursive=True)]:
        started.kill()
    process.wait()
    assert half.read_text() == "half\n"
    assert "gpu/machine/doctor.txt" in machine.packed()


@pytest.fixture
def bundle(machine):
    for name in ("wheels/a.whl", "cubins/sm_90-x.cubin"):
        path = machine.folder / "bundle" / name
        path.parent.mkdir(parents=True)
        path.write_text("")
    return machine.folder / "bundle"


def test_what_was_carried_is_used(machine, bundle):
    assert machine.run("first").returncode == 0
    calls = machine.calls()
    assert "-m pip install" in calls[0]
    assert calls[0].endswith("/wheels/a.whl")
    assert all(f"cubins={bundle}/cubins " in call for call in calls[2:])


def test_refused_kernels_are_said_and_compiled_there(machine, bundle):
    done = machine.run("first", cases='*gpu_kernels.py*) [ -z "${MANN_BENCH_CUBINS:-}" ] || { echo "of another source"; exit 3; } ;;')
    assert done.returncode == 0
    assert "of another source" in done.stdout
    assert "compiled here" in done.stdout
    assert "cubins= " in machine.calls()[-1]


def test_the_bundle(machine):
    """pip is asked for the other machine's Python, the kernels are compiled for its GPU, and a line says how to use both."""
    environment = machine.environment(
        f"*pip*) touch {machine.folder}/bundle/wheels/x.whl ;;", FOR="3.13", ARCH="sm_80", PACKAGES="pydantic faiss"
    )
    done = subprocess.run([ROOT / ".ci" / "gpu-bundle"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    download, kernels = machine.calls()
    assert "pip download" in download
    assert all(
        text in download for text in ("--python-version 3.13 ", "--only-binary=:all:", "--platform manylinux2014_x86_64", "pydantic faiss")
    )
    assert f"build-kernels --arch sm_80 --out {machine.folder}/bundle/cubins" in kernels
    assert done.stdout.endswith("call: make gpu PYTHON=python3.13 ARCHIVE=gpu.tgz BUNDLE=bundle\n")
    assert {"bundle/README.txt", "bundle/wheels/x.whl"} <= set(machine.packed())


def test_kernels_are_made_ready(monkeypatch, capsys):
    """Without a GPU: those of the CPU."""
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    gpu_kernels = importlib.import_module("gpu_kernels")
    monkeypatch.setattr(gpu_kernels.build, "build", lambda flags: Path("made.so"))
    assert gpu_kernels.main() == 0
    assert capsys.readouterr().out.splitlines() == ["CPU float32: made.so 0.0 s", "CPU float64: made.so 0.0 s"]
    sys.modules.pop("gpu_kernels")


def test_one_block_is_timed_against_clusters(monkeypatch):
    """In turn, and not what is chosen where nothing is said."""
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    monkeypatch.setattr(sys, "argv", ["gpu_contact.py", "cpu", "clusters"])
    monkeypatch.setenv(cluster.VARIABLE, "")  # and as it was afterwards
    contact, timed = importlib.import_module("gpu_contact"), []
    monkeypatch.setattr(contact, "report", lambda name, *_, **__: timed.append((name, cluster.asked())))
    contact.main()
    assert timed == [("sam lsh x1", "0"), ("sam lsh x4", "4")] * (len(timed) // 2)
    assert len(timed) >= 4
    sys.modules.pop("gpu_contact")
