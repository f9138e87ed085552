"""A session of training runs with scripted processes: no process can harm the other runs."""

import io
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from mann_bench.learn import processes
from mann_bench.learn import session as module
from mann_bench.learn.messages import Message, decode_message
from mann_bench.learn.processes import ThisMachine
from mann_bench.learn.record import LearningCase
from mann_bench.learn.session import LearningSession
from mann_bench.run.replies import Failure, Killed
from tests.support.training import FakeTrainingProcess

GOOD = json.dumps({"result": {"status": "budget", "reason": None, "wall_s": 1.5, "sequences": 10}}).encode()
KILLED = Killed(status="error", reason="killed by SIGKILL")


class ScriptedProcess(FakeTrainingProcess):
    """A process that sends the lines of its script, or dies as the script says; each try has a script."""

    scripts: ClassVar[dict[int, list[list[bytes | Failure]]]] = {}  # by seed
    commands: ClassVar[list[dict[str, Any]]] = []

    output = "its last words"

    def send(self, command):
        self.commands.append(command)
        self.script = self.scripts[command["case"]["seed"]].pop(0)

    def receive(self):
        lines = [line for line in self.script if isinstance(line, bytes)]
        return lines, next((end for end in self.script if isinstance(end, Failure)), None)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "TrainingProcess", ScriptedProcess)
    monkeypatch.setattr(processes, "build_kernels", lambda dtypes: None)
    monkeypatch.setattr(module, "fingerprint", dict)
    ScriptedProcess.commands = []

    def run_scripts(*scripts):
        ScriptedProcess.scripts = {seed: list(script) for seed, script in enumerate(scripts)}
        cases = [LearningCase(task="copy", model="lstm", seed=seed, levels=(1, 2), sequences=10) for seed in range(len(scripts))]
        session = LearningSession(cases, None, Path("out"), resume=False, console=Console(quiet=True), every_s=60, evaluation_s=60)
        session.run(ThisMachine(2))
        return {result.case.seed: result for result in session.folder.records}

    return run_scripts


@pytest.mark.parametrize(
    "line",
    [
        b"made by print",
        b"{}",
        b'"\\ud800"',
        b'{"sequences": 3}',
        b'{"progress": {"sequences": "many"}}',
        b'{"stopped": true, "evaluating": 3}',
        b'{"result": 7}',
        b'{"result": {"status": "won", "wall_s": 1}}',
        b'{"result": {"status": "ok"}}',
        b'{"result": {"case_id": "another", "status": "ok", "wall_s": 1}}',
    ],
)
def test_a_strange_message_is_an_error_of_its_run(run, line):
    results = run([[line]], [[GOOD]])
    assert {seed: result.status for seed, result in results.items()} == {0: "error", 1: "budget"}
    assert "expected a" in str(results[0].reason)
    assert (results[0].output, results[1].output) == ("its last words", None)


def test_messages_after_the_result_are_ignored(run):
    assert run([[GOOD, b"noise", GOOD, Failure(status="error", reason="exited with code 1")]])[0].status == "budget"


def test_a_run_whose_process_is_killed_is_tried_once_more(run):
    results = run([[KILLED], [GOOD]], [[KILLED], [KILLED]])
    assert {seed: (result.status, result.reason) for seed, result in results.items()} == {
        0: ("budget", None),
        1: ("error", "killed by SIGKILL"),
    }
    assert [command["case"]["seed"] for command in ScriptedProcess.commands] == [0, 1, 0, 1]


def test_a_process_that_changes_its_folder_still_writes_its_checkpoint_where_it_should(run, tmp_path):
    run([[GOOD]])
    checkpoint = Path(ScriptedProcess.commands[0]["checkpoint"])
    assert checkpoint.is_relative_to(tmp_path.resolve() / "out" / "checkpoints")


def test_a_damaged_checkpoint_of_a_run_that_died_does_no_harm(run, tmp_path, monkeypatch):
    def damaged(*_):
        raise EOFError

    monkeypatch.setattr(module, "load_checkpoint", damaged)
    assert run([[Failure(status="error", reason="exited with code 1: RuntimeError")]])[0].wall_s == 0


def test_messages_have_one_key():
    assert decode_message(b'{"evaluating": 3}') == Message(evaluating=3)
    assert isinstance(decode_message(b'{"evaluating": 3, "disk": "full"}'), Failure)


def test_lines_say_how_long_the_rest_takes_and_what_is_evaluated(run, monkeypatch):
    printed = io.StringIO()
    monkeypatch.setattr(module, "LINE_S", 0.0)
    plain = Console(file=printed, width=200)
    monkeypatch.setattr(LearningSession, "console", property(lambda self: plain, lambda self, value: None), raising=False)
    progress = {"loss": 0.5, "level": 2, "sequences": 4, "rate": 1.0, "wall_s": 100.0}
    run([[json.dumps({"progress": progress}).encode(), b'{"evaluating": 8192}', GOOD]])
    assert printed.getvalue().startswith("1 runs to make, 2 at a time; results: out/learning.jsonl\n")
    assert "4 sequences  1/s  100 s  at most 2.5 min left\n" in printed.getvalue()
    assert "seed 0: evaluating level 8,192\n" in printed.getvalue()
