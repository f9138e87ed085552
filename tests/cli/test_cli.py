"""The command line: exit codes, messages, and what is kept when a run is killed or the disk is full."""

import inspect
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from mann_bench.cli.options import expand
from mann_bench.data.store import load_results

SUITE = """
name = "tiny"
[fixed]
steps = 4
[[sweep]]
models = ["lstm"]
slots = ["4", "8", "16"]
[budget]
case_seconds = 60
timing_seconds = 0.05
"""


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "mann_bench", *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quik"], "did you mean 'quick'"),
        (["run", "quick", "--models", "sma"], "did you mean 'sam'"),
        (["learn", "copy", "--models", "ntm-graph"], "training needs many; use ntm"),
        (["profile", "ntm-graph"], "shows no steps or phases; use ntm"),
        (["run", "quick", "--model", "nowhere"], "expected one of"),
        (["run", "quick", "--slots", "12q"], "expected a size such as"),
        (["run", "quick", "--device", "tpu"], "expected cpu, cuda or cuda:N"),
        (["run", "quick", "--mode", "dream"], "expected train or infer"),
        (["run", "quick", "--resume"], "expected --out FOLDER"),
        (["list", "houses"], "expected one of models, options, suites, studies, tasks, indexes, ops, claims, got 'houses'"),
        (["report", "nowhere"], "expected a run folder"),
        (["run"], "Missing argument"),
        (["fly"], "No such command"),
    ],
)
def test_bad_usage_is_reported_and_exits_2(call, arguments, message):
    done = call(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_help_of_every_command_is_quick():
    """Help imports no slow package."""
    program = """
import sys
from typer.testing import CliRunner
from mann_bench.cli.app import app
commands = [command.name for command in app.registered_commands]
shown = [CliRunner().invoke(app, [*command, "--help"]) for command in [[], *([name] for name in commands)]]
assert all(result.exit_code == 0 and "--help" in result.stdout for result in shown), shown
print(len(shown) - len(commands), *({"torch", "pandas", "scipy", "matplotlib", "jinja2"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1"], done.stdout + done.stderr


def test_options_of_a_suite_are_those_of_the_command():
    """`expand` replaces a parameter by the fields of its dataclass, and passes the command an object made of them."""

    @dataclass(frozen=True)
    class Group:
        first: int = 1
        second: str = "b"

    calls = []

    def command(before: int, group: Group, after: bool = False) -> None:
        calls.append((before, group, after))

    expanded = expand(command)
    assert list(inspect.signature(expanded).parameters) == ["before", "first", "second", "after"]
    expanded(before=0, first=5, second="x", after=True)
    assert calls == [(0, Group(5, "x"), True)]


def test_malformed_toml(call, tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text('name = "x')
    done = call("run", path)
    assert done.returncode == 2
    assert "not valid TOML" in done.stderr


def test_run_then_report(call, tiny, tmp_path):
    out = tmp_path / "out"
    done = call("run", tiny, "--out", out, "--json", "--slots", "8")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["statuses"] == {"ok": 1}
    assert "lstm N=8 train" in done.stderr
    assert json.loads((out / "run.json").read_text())["environment"]["cpu"]
    again = call("run", tiny, "--out", out, "--slots", "8")
    assert again.returncode == 2
    assert "add --resume" in again.stderr
    report = call("report", out)
    assert report.returncode == 0, report.stderr
    assert (out / "report" / "report.html").is_file()


def test_kill_9_of_the_driver_then_resume(call, tiny, tmp_path):
    out = tmp_path / "out"
    arguments = [sys.executable, "-m", "mann_bench", "run", str(tiny), "--out", str(out)]
    driver = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    results = out / "results.jsonl"
    while not results.exists() or results.read_bytes().count(b"\n") < 2:
        assert driver.poll() is None
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-P", str(driver.pid)], capture_output=True, text=True).stdout.split()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = results.read_text().splitlines()
    assert len(before) == 2
    give_up = time.monotonic() + 20  # a worker still importing torch sees its driver gone when it has finished
    while any(os.path.exists(f"/proc/{worker}/exe") for worker in workers):
        assert time.monotonic() < give_up, "a worker outlived its driver"
        time.sleep(0.05)

    done = call("run", tiny, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    after = results.read_text().splitlines()
    assert after[: len(before)] == before
    assert [result.case.slots for result in load_results(out)] == [4, 8, 16]


def test_ctrl_c_keeps_everything_and_says_how_to_resume(tiny, tmp_path):
    out = tmp_path / "out"
    driver = subprocess.Popen([sys.executable, "-m", "mann_bench", "run", str(tiny), "--out", str(out)], stderr=subprocess.PIPE, text=True)
    results = out / "results.jsonl"
    while not results.exists() or not results.read_bytes():
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert f"--out {out} --resume" in errors
    assert load_results(out)


def test_full_disk_stops_clearly(tiny, tmp_path):
    out = tmp_path / "out"

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    done = command("run", tiny, "--out", out, preexec_fn=small_files, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 1, done.stderr
    assert "what finished is kept" in done.stderr
    assert 1 <= len(load_results(out)) < 3


def test_plan_list_and_doctor_print_json(call, tiny):
    def printed(*arguments):
        done = call(*arguments)
        assert done.returncode == 0
        return done.stdout

    plan = json.loads(printed("plan", tiny, "--json"))
    assert [row["case"]["slots"] for row in plan] == [4, 8, 16]
    assert all(row["bytes"] > 0 and row["seconds"] > 0 for row in plan)
    assert {"lstm", "ntm", "sam"} <= {row["model"] for row in json.loads(printed("list", "models", "--json"))}
    assert any(row["name"] == "quick" for row in json.loads(printed("list", "suites", "--json")))
    assert any(row["part"] == "torch" for row in json.loads(printed("doctor", "--json")))
    assert "predicted" in printed("plan", tiny)


def test_cuda_without_a_gpu_is_recorded(tiny, tmp_path):
    done = command("run", tiny, "--device", "cuda", "--out", tmp_path / "out", env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1
    assert {result.status for result in load_results(tmp_path / "out")} == {"unavailable"}
