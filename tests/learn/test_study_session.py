"""The session of a study: what is chosen decides what is reported; a study that is killed anywhere ends as one that was not."""

import json
import signal
import subprocess
import sys
import time
from typing import Any, ClassVar

import pytest
from rich.console import Console

from mann_bench.cli.merge import left_to_do, next_command
from mann_bench.data.errors import UsageError
from mann_bench.data.merge import merge
from mann_bench.data.shards import Shard
from mann_bench.data.store import load_records, load_run
from mann_bench.learn import processes
from mann_bench.learn import session as module
from mann_bench.learn.configurations import plan_study
from mann_bench.learn.processes import ThisMachine
from mann_bench.learn.record import LEARNING, LearningCase
from mann_bench.learn.session import LearningSession
from mann_bench.learn.study import parse_study
from mann_bench.learn.study_session import StudySession
from tests.support.training import FakeTrainingProcess

# A file of the checkout that is changed while these run is another condition, of which a resumed run warns.
pytestmark = pytest.mark.filterwarnings("ignore::mann_bench.data.errors.StorageWarning")
STUDY = """
name = "planted"  # at rate 0.001 the seeds that choose need fewer sequences, and those that are reported need more
models = ["lstm", "ntm"]
[[task]]
task = "copy"
levels = [1, 2]
sequences = 1000
[grid]
learning_rate = [3e-3, 1e-3]
[selection]
seeds = [7, 8]
by = "goal"
[report]
seeds = [0, 1]
"""
MACHINE = {"device": "cpu", "threads": 1, "memory_bytes": 2**30}


def planted_need(case: dict[str, Any]) -> int | None:
    """Sequences to the goal: by the seeds that choose, 0.001 is the better rate of the lstm, and no rate is enough for the ntm."""
    if case["model"] == "ntm":
        return None
    better = 1e-3 if case["seed"] in (7, 8) else 3e-3
    return 300 if case["learning_rate"] == better else 600


class PlantedProcess(FakeTrainingProcess):
    """A process that sends the result that `planted_need` says."""

    commands: ClassVar[list[dict[str, Any]]] = []
    output = ""

    def send(self, command):
        self.commands.append(command)
        self.need = planted_need(command["case"])

    def receive(self):
        done = {"status": "ok" if self.need else "budget", "wall_s": 1.5, "sequences": self.need or 1000, "sequences_to_goal": self.need}
        return [json.dumps({"result": done}).encode()], None

    stop = wait = lambda self, *_: None


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "TrainingProcess", PlantedProcess)
    monkeypatch.setattr(processes, "build_kernels", lambda dtypes: None)
    monkeypatch.setattr(module, "fingerprint", dict)
    PlantedProcess.commands = []

    def make_study(text=STUDY, machine=MACHINE, *, name="out", resume=False, **others):
        plan = plan_study(parse_study(text, "planted.toml"), "planted.toml", None, machine)
        console = Console(quiet=True)
        return StudySession(plan, None, tmp_path / name, resume=resume, every_s=60, evaluation_s=60, console=console, **others)

    return make_study


def runs(folder):
    return [(r.case.model, r.case.seed, r.case.learning_rate, r.sequences_to_goal) for r in load_records(folder, LEARNING)]


def test_the_seeds_that_are_not_reported_choose(make, tmp_path):
    assert make().run(ThisMachine(1)) == {"ok": 4 + 2, "budget": 4 + 2}
    made = runs(tmp_path / "out")
    grid = [(model, seed, rate) for model in ("lstm", "ntm") for seed in (7, 8) for rate in (3e-3, 1e-3)]
    assert {run[:3] for run in made[:8]} == set(grid)
    assert made[8:] == [("lstm", 0, 1e-3, 600), ("ntm", 0, 3e-3, None), ("lstm", 1, 1e-3, 600), ("ntm", 1, 3e-3, None)]
    description = load_run(tmp_path / "out")
    assert description["study_text"] == STUDY
    assert len(description["run_ids"]) == 2 * 2 * 4
    assert {LearningCase(**command["case"]).run_id for command in PlantedProcess.commands} <= set(description["run_ids"])


def test_a_task_is_reported_before_the_next_one_chooses(make, tmp_path):
    second = '[[task]]\ntask = "repeat-copy"\nlevels = [1, 2]\nsequences = 1000\n[grid]'
    assert make(STUDY.replace("[grid]", second)).run(ThisMachine(1)) == {"ok": 12, "budget": 12}
    order = [(result.case.task, result.case.seed in (7, 8)) for result in load_records(tmp_path / "out", LEARNING)]
    assert order == [
        (task, chooses) for task in ("copy", "repeat-copy") for chooses, count in ((True, 8), (False, 4)) for _ in range(count)
    ]


def test_of_diverged_runs_those_that_choose_are_no_failures(make, monkeypatch):
    """Also when a later task chooses: the exit code of the command depends on it."""
    receive = PlantedProcess.receive

    def diverge(self):
        lines, death = receive(self)
        return [line.replace(b'"ok"', b'"diverged"') for line in lines], death

    monkeypatch.setattr(PlantedProcess, "receive", diverge)
    text = STUDY.replace("[grid]", '[[task]]\ntask = "repeat-copy"\nlevels = [1, 2]\nsequences = 1000\n[grid]')
    monkeypatch.setattr(
        "tests.learn.test_study_session.planted_need", lambda case: 300 if case["model"] == "lstm" and case["seed"] != 8 else None
    )
    assert make(text).run(ThisMachine(1)) == {"diverged": 4, "budget": 20}


@pytest.mark.parametrize("kept", range(13))
def test_a_study_that_is_killed_anywhere_goes_on(make, tmp_path, monkeypatch, kept):
    """`kept` results are stored before the driver dies: between the runs that choose (8) and those that are reported, too."""
    make(name="whole").run(ThisMachine(1))
    stored: list[str] = []
    store = LearningSession.store

    def store_until(self, result, training=None):
        if len(stored) == kept:
            raise KeyboardInterrupt
        stored.append(result.run_id)
        store(self, result, training)

    with monkeypatch.context() as patch:
        patch.setattr(LearningSession, "store", store_until)
        if kept < 12:
            with pytest.raises(KeyboardInterrupt):
                make().run(ThisMachine(1))
        else:
            make().run(ThisMachine(1))
    assert make(resume=True).run(ThisMachine(1)) == {"ok": 6, "budget": 6}
    assert runs(tmp_path / "out") == runs(tmp_path / "whole")


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("seeds = [0, 1]", "seeds = [0, 1, 2]", "report.seeds: [0, 1] and [0, 1, 2]"),
        ("sequences = 1000", "sequences = 999", "task 1.sequences: 1000 and 999"),
        ("sequences = 1000", 'sequences = 2000\nseconds = "1m"', "task 1.sequences: 1000 and 2000; task 1.seconds: none and '1m'"),
        ("[grid]", "[fixed]\nhidden = 8\n[grid]", "fixed.hidden: none and 8"),
        ('by = "goal"', 'by = "validation"', "selection.by: 'goal' and 'validation'"),
    ],
)
def test_resume_with_a_changed_study_says_what_differs(make, tmp_path, old, new, differs):
    make().run(ThisMachine(1))
    before = (tmp_path / "out" / "learning.jsonl").read_bytes()
    with pytest.raises(UsageError) as error:
        make(STUDY.replace(old, new), resume=True)
    assert f"got a changed one ({differs})" in str(error.value)
    assert (tmp_path / "out" / "learning.jsonl").read_bytes() == before


def test_with_a_larger_limit_the_runs_that_ended_at_theirs_go_on(make, tmp_path):
    make().run(ThisMachine(1))
    PlantedProcess.commands = []
    further = STUDY.replace("sequences = 1000", "sequences = 2000")
    session = make(further, resume=True)
    assert load_run(tmp_path / "out")["study_text"] == further
    session.run(ThisMachine(1))
    again = [(case["model"], case["seed"], case["sequences"]) for case in (command["case"] for command in PlantedProcess.commands)]
    assert again == [("ntm", seed, 2000) for seed in (7, 8, 7, 8, 0, 1)]
    with pytest.raises(UsageError, match="sequences: 2000 and 1000"):
        make(resume=True)


def test_resume_on_a_machine_that_plans_other_runs_says_so(make):
    make().run(ThisMachine(1))
    with pytest.raises(UsageError, match=r"copy, lstm: memory_bytes: 1073741824 and 1073741825"):
        make(machine=MACHINE | {"memory_bytes": 2**30 + 1}, resume=True)


def test_a_changed_comment_changes_no_run(make, tmp_path):
    make().run(ThisMachine(1))
    assert make(STUDY.replace("# at rate", "# At rate"), resume=True).run(ThisMachine(1)) == {"ok": 6, "budget": 6}
    assert load_run(tmp_path / "out")["study_text"] == STUDY


def test_without_a_grid_all_runs_are_reported(make, tmp_path):
    assert make(STUDY.replace("[grid]\nlearning_rate = [3e-3, 1e-3]\n", "")).run(ThisMachine(2)) == {"budget": 2, "ok": 2}
    assert {seed for _, seed, *_ in runs(tmp_path / "out")} == {0, 1}


class TestShards:
    """A study in two shards: what is joined is what one machine would have made."""

    def test_both_parts_of_both_shards_are_the_study(self, make, tmp_path):
        whole = make(name="whole")
        whole.run(ThisMachine(1))
        waits = []
        for number in (1, 2):
            session = make(name=f"first-{number}", shard=Shard(number, 2))
            assert session.run(ThisMachine(1)) == {"ok": 2, "budget": 2}
            waits.append(session.waits)
        chosen = merge([tmp_path / "first-1", tmp_path / "first-2"], LEARNING, tmp_path / "chosen")
        assert left_to_do(chosen) == (12, 4)
        assert next_command(chosen, 4).startswith("mann-bench learn planted --shard N/COUNT --memory SIZE --chosen ")
        for number in (1, 2):
            session = make(name=f"then-{number}", shard=Shard(number, 2), chosen=tmp_path / "chosen")
            session.run(ThisMachine(1))
            waits.append(session.waits)
        parts = [tmp_path / name for name in ("chosen", "then-1", "then-2")]
        merged = merge(parts, LEARNING, tmp_path / "all")
        assert sorted(runs(tmp_path / "all"), key=str) == sorted(runs(tmp_path / "whole"), key=str)
        assert (len(merged.records), waits) == (12, [True, True, False, False])
        assert (left_to_do(merged), next_command(merged, 0)) == ((12, 0), f"mann-bench report {tmp_path / 'all'}")
        assert [len(runs(part)) for part in parts] == [8, 2, 2]
        assert make(name="all", resume=True).run(ThisMachine(1)) == {"ok": 6, "budget": 6}
        assert len(runs(tmp_path / "all")) == 12

    def test_without_a_grid_nothing_waits(self, make, tmp_path):
        text = STUDY.replace("[grid]\nlearning_rate = [3e-3, 1e-3]\n", "")
        sessions = [make(text, name=str(number), shard=Shard(number, 3)) for number in (1, 2, 3)]
        assert [session.run(ThisMachine(1)).total() for session in sessions] == [1, 1, 2]  # the ntm takes longer
        assert not any(session.waits for session in sessions)

    def test_a_choice_needs_all_runs_that_choose(self, make, tmp_path):
        make(name="1", shard=Shard(1, 2)).run(ThisMachine(1))
        with pytest.raises(UsageError, match=r"--chosen .*1: expected all 8 runs that choose, got 4"):
            make(name="then", shard=Shard(1, 2), chosen=tmp_path / "1")
        with pytest.raises(UsageError, match=r"--chosen .*none: expected the folder"):
            make(name="then", shard=Shard(1, 2), chosen=tmp_path / "none")
        other = STUDY.replace("seeds = [0, 1]", "seeds = [0, 1, 2]")
        with pytest.raises(UsageError, match=r"--chosen .*1: expected the study that is there, got a changed one"):
            make(other, name="then", shard=Shard(1, 2), chosen=tmp_path / "1")
        with pytest.raises(UsageError, match="got one with another run, shard 1/2"):
            make(name="1", shard=Shard(2, 2))
        assert not (tmp_path / "then").exists()

    def test_runs_of_two_folders_are_not_joined(self, make, tmp_path):
        make(name="1", shard=Shard(1, 2)).run(ThisMachine(1))
        first = merge([tmp_path / "1"], LEARNING, tmp_path / "first")
        assert left_to_do(first) == (8, 4)
        assert "without --shard" in next_command(first, 4)
        make(name="2").run(ThisMachine(1))
        with pytest.raises(UsageError, match="expected each case in one part"):
            merge([tmp_path / "1", tmp_path / "2"], LEARNING, tmp_path / "all")


REAL = """
name = "real"
models = ["lstm", "sam"]
[fixed]
hidden = 8
slots = 8
batch = 4
patience = 10
[[task]]
task = "copy"
levels = [1, 2]
sequences = 3000
[grid]
learning_rate = [1e-3, 1e-2]
[selection]
seeds = [7]
[report]
seeds = [0]
"""


@pytest.mark.slow
def test_kill_9_and_resume_give_the_same_curves_bit_for_bit(call, tmp_path):
    """Killed twice: while it chooses, and while it makes the runs that are reported."""
    (tmp_path / "real.toml").write_text(REAL)
    arguments = ["learn", tmp_path / "real.toml", "--evaluation-seconds", "20", "--checkpoint-seconds", "0.1", "--memory", "1G"]
    assert call(*arguments, "--out", tmp_path / "whole").returncode == 0
    out = tmp_path / "out"
    resume: list[str] = []

    def done():
        return len((out / "learning.jsonl").read_bytes().splitlines()) if (out / "learning.jsonl").is_file() else 0

    for stored in (1, 4):
        command = [sys.executable, "-m", "mann_bench", *map(str, arguments), "--out", str(out), *resume]
        driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        seen: set[str] = set()
        while done() < stored or {path.name for path in out.glob("checkpoints/*.pt")} == seen:
            seen = seen if done() < stored else seen or {path.name for path in out.glob("checkpoints/*.pt")}
            assert driver.poll() is None
            time.sleep(0.01)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        resume = ["--resume"]
    finished = call(*arguments, "--out", out, "--resume")
    assert finished.returncode == 0, finished.stderr
    whole, killed = ({r.run_id: r for r in load_records(folder, LEARNING)} for folder in (tmp_path / "whole", out))
    assert set(whole) == set(killed)
    assert any(result.resumed for result in killed.values())
    for run_id, result in killed.items():
        curves = [[point.model_dump(exclude={"wall_s"}) for point in r.curve] for r in (result, whole[run_id])]
        assert curves[0] == curves[1]
        assert (result.evaluations, result.validation) == (whole[run_id].evaluations, whole[run_id].validation)
