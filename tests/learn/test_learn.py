"""`mann-bench learn` from the command line: plans, errors, storage, stop and resume."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from mann_bench.cli.learn import parse_levels, parse_rates
from mann_bench.data.errors import UsageError
from mann_bench.data.store import load_records
from mann_bench.data.suite import Budget
from mann_bench.learn import trainer
from mann_bench.learn.plan import plan, prediction_case, with_equal_memory
from mann_bench.learn.record import LEARNING, LearningCase, LearningOptions, LearningResult
from mann_bench.measure.predict import predict
from mann_bench.reports.learning.experiments import load_experiments
from mann_bench.suites.tasks import find_task

# A file of the checkout that is changed while these run is another condition, of which a resumed run warns.
pytestmark = pytest.mark.filterwarnings("ignore::mann_bench.data.errors.StorageWarning")
QUICK = ["learn", "copy", "--levels", "1-2", "--hidden", "8", "--slots", "8", "--batch", "4", "--patience", "10"]


def command(*arguments):
    return [sys.executable, "-m", "mann_bench", *map(str, arguments)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["coppy"], "did you mean 'copy'"),
        (["copy", "--models", "sma"], "did you mean 'sam'"),
        (["copy", "--models", "ntm-fast"], "expected a variant of ntm"),
        (["copy", "--models", "op:topk_content"], "expected models"),
        (["copy", "--models", ","], "expected at least one"),
        (["copy", "--budget", "soon"], "expected a time such as"),
        (["copy", "--sequences", "many"], "expected a size such as"),
        (["copy", "--levels", "few"], "expected LOWEST-HIGHEST"),
        (["copy", "--levels", "0-3"], "level: expected at least 1"),
        (["copy", "--levels", "3-2"], "lowest <= highest"),
        (["copy", "--optimizer", "sgd"], "--optimizer: "),
        (["copy", "--curriculum", "steep"], "--curriculum: "),
        (["copy", "--learning-rate", "fast"], "expected a number or MODEL=NUMBER"),
        (["copy", "--learning-rate", "ntn=1e-3"], "expected models among"),
        (["copy", "--index", "kd"], "--index: "),
        (["copy", "--task-option", "bits"], "NAME=WHOLE_NUMBER"),
        (["copy", "--task-option", "bit=3"], "did you mean 'bits'"),
        (["copy", "--device", "tpu"], "expected cpu, cuda or cuda:N"),
        (["copy", "--equal-memory", "--models", "ntm,lstm"], "expected sam among the models"),
        (["copy", "--slots", "1"], "slots: expected a whole number >= 2"),
        (["copy", "--kernels", "fast"], "kernels: expected one of"),
        (["copy", "--resume"], "expected --out FOLDER"),
    ],
)
def test_usage_errors(call, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = call("learn", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_options_are_read():
    assert parse_levels("1-20") == (1, 20)
    assert parse_levels("7") == (7, 7)
    assert parse_rates("1e-3,ntm=1e-4", ["sam", "ntm"]) == {"": 1e-3, "ntm": 1e-4}
    rates = {case.model: case.learning_rate for case in planned(["sam", "ntm"], learning_rates={"": 1e-3, "ntm": 1e-4})}
    assert rates == {"sam": 1e-3, "ntm": 1e-4}


def test_every_option_reaches_the_case(call, monkeypatch):
    options = {
        **{"curriculum": "exponential", "curriculum_threshold": 0.3, "patience": 7, "first_level": 2, "goal": 0.1},
        **{"word_size": 9, "heads": 3, "reads": 2, "hidden": 11, "batch": 5, "optimizer": "rmsprop", "momentum": 0.8, "clip": 2.0},
        **{"kernels": "torch", "index": "lsh", "device": "cpu", "threads": 2},
    }
    parsed = ["--levels", "2-9", "--slots", "1k", "--sequences", "2k", "--budget", "2m", "--learning-rate", "2e-3", "--memory", "1G"]
    parsed += ["--task-option", "bits=5", "--past-goal", "--option", "erase=gated"]
    arguments = [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), str(value))]
    cases = []

    def session(planned_cases, *_, **__):
        cases.extend(planned_cases)
        sys.exit(0)

    monkeypatch.setattr("mann_bench.learn.session.LearningSession", session)
    assert call("learn", "copy", "--models", "sam", "--seeds", "1", *arguments, *parsed).returncode == 0
    (case,) = cases
    options |= {"levels": (2, 9), "slots": 1024, "sequences": 2048, "seconds": 120, "learning_rate": 2e-3, "memory_bytes": 2**30}
    options |= {"task_options": {"bits": 5}, "stop_at_goal": False, "options": {"erase": "gated"}}
    assert {name: getattr(case, name) for name in options} == options
    assert set(options) == {field.name for field in fields(LearningOptions)} - {"learning_rates"} | {"learning_rate"}


def planned(models, seeds=(0,), **options):
    return plan("copy", find_task("copy"), models, seeds, LearningOptions(sequences=100, **options))


def test_plan():
    cases = planned(["sam", "ntm-checkpointed"], seeds=[4, 5])
    assert [(case.name, case.seed) for case in cases] == [("sam", 4), ("ntm-checkpointed", 4), ("sam", 5), ("ntm-checkpointed", 5)]
    assert [case.index for case in cases[:2]] == ["live", "exact"]
    assert {case.levels for case in cases} == {(1, 20)}
    assert planned(["sam", "lstm", "sam"]) == planned(["sam", "lstm"])  # a run has one checkpoint
    (endless,) = planned(["sam"], curriculum="exponential")
    assert endless.first_level == 1
    assert endless.levels[1] > 10**6
    recall = find_task("recall", options={"key_bits": 8})
    (bounded,) = plan("recall", recall, ["sam"], [0], LearningOptions(sequences=1, curriculum="exponential"))
    assert bounded.levels == (1, 256)


def predicted_bytes(case, task):
    size_bytes = predict(prediction_case(case, task), Budget()).total_bytes
    assert size_bytes is not None
    return size_bytes


def test_options_of_the_task_are_part_of_the_case():
    options = {"value_bits": 48}
    (case,) = plan("recall", find_task("recall", None, options), ["sam"], [0], LearningOptions(task_options=options, sequences=10))
    assert case.task_options == options


def test_equal_memory_fills_the_same_bytes():
    task = find_task("copy")
    cases, notes = with_equal_memory(planned(["sam", "ntm", "dnc", "lstm"], slots=4096, heads=2), task)
    sam, ntm, dnc, lstm = cases
    assert sam.slots == lstm.slots == 4096
    for case in (ntm, dnc):
        assert case.slots < 4096
        assert 0.9 < predicted_bytes(case, task) / predicted_bytes(sam, task) <= 1
    assert len(notes) == 3
    small = {"slots": 8, "word_size": 64, "heads": 2}
    with pytest.raises(UsageError, match="too few"):
        with_equal_memory([*planned(["sam"], **small), *planned(["ntm"], kernels="torch", **small)], task)


def test_models_with_product_keys_get_perfect_squares():
    """By default the next that holds every write; at equal bytes the largest that fits. A sparse gradient is made dense for Adam."""
    task = find_task("copy")
    models = ["sam", "sdm", "pkm", "deltanet"]
    assert [case.slots for case in planned(models, heads=2)] == [128, 144, 144, 128]
    short = planned(models, heads=1, reads=4, levels=(1, 1))  # K keys of each factor make at least K^2 slots
    assert [case.slots for case in short] == [4, 16, 16, 4]
    cases, _ = with_equal_memory(planned(models, slots=4096, heads=2), task)
    sam, sdm, pkm, deltanet = cases
    assert sam.slots == deltanet.slots == 4096
    for case in (sdm, pkm):
        assert math.isqrt(case.slots) ** 2 == case.slots
        assert 0.8 < predicted_bytes(case, task) / predicted_bytes(sam, task) <= 1
    model: Any = trainer.build(pkm.model_copy(update={"slots": 16}), task)
    model(torch.randn(2, 1, task.input_size))[0].sum().backward()
    expected = model.values.grad.to_dense()
    trainer.make_dense(model)
    assert not model.values.grad.is_sparse
    assert torch.equal(model.values.grad, expected)


def test_runs_are_stored_and_a_finished_folder_has_nothing_left_to_do(call, tmp_path):
    out = tmp_path / "out"
    arguments = [*QUICK, "--models", "sam,lstm", "--seeds", "2", "--sequences", "400", "--jobs", "2", "--out", out, "--json"]
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["statuses"] == {"budget": 4}
    results = load_records(out, LEARNING)
    assert {(result.case.model, result.case.seed) for result in results} == {("sam", 0), ("sam", 1), ("lstm", 0), ("lstm", 1)}
    for result in results:
        assert [point.sequences for point in result.curve] == [200, 400]
        assert [evaluation.level for evaluation in result.evaluations] == [1, 2, 4, 10, 20]
        assert (result.peak_bytes or 0) > 10**7
        assert result.backend is not None
        assert result.validation is not None
        assert (result.validation.level, result.validation.error is None, result.evaluation_seconds) == (2, False, 60)
    assert json.loads((out / "run.json").read_text())["environment"]["torch"]
    again = call(*arguments, "--resume")
    assert again.returncode == 0
    assert "4 of 4 runs are there already" in again.stderr
    other = call(*arguments, "--resume", "--seeds", "3")
    assert other.returncode == 2
    assert "give the same suite and options" in other.stderr


def test_out_of_memory_is_a_result_and_an_error_fails_the_command(call, tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text(
        "from mann_bench.models import LSTM\n"
        "class Faulty(LSTM):\n"
        "    def forward(self, x, state):\n"
        "        raise RuntimeError('a wheel is missing')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    out = tmp_path / "out"
    arguments = ["--models", "ntm", "--model", "faulty:Faulty", "--seeds", "1", "--sequences", "400", "--out", out]
    done = call(*QUICK, *arguments, "--slots", "128k", "--memory", "256M")
    assert done.returncode == 1, done.stderr
    by_status = {result.status: result for result in load_records(out, LEARNING)}
    assert set(by_status) == {"oom", "error"}
    assert "at level" in str(by_status["oom"].reason)
    assert (by_status["oom"].sequences, by_status["oom"].evaluations) == (0, [])
    assert "a wheel is missing" in str(by_status["error"].reason)


def test_stopped_runs_resume(call, tmp_path):
    out = tmp_path / "out"
    arguments = [*QUICK, "--models", "lstm", "--seeds", "1", "--sequences", "4000", "--checkpoint-seconds", "0.1", "--out", out]
    driver = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    while not list(out.glob("checkpoints/*.pt")):
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 143, errors
    assert "stopped by SIGTERM" in errors
    assert f"--out {out} --resume" in errors
    assert not (out / "learning.jsonl").read_bytes()
    done = call(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    (result,) = load_records(out, LEARNING)
    assert (result.sequences, result.resumed) == (4000, 1)


def curve_of(result):
    return [point.model_dump(exclude={"wall_s"}) for point in result.curve]


def test_runs_resume_beyond_their_limit(call, tmp_path):
    out = tmp_path / "out"
    shared = [*QUICK, "--models", "sam", "--seeds", "1", "--evaluation-seconds", "20"]
    arguments = [*shared, "--out", out, "--resume"]
    assert call(*shared, "--out", out, "--sequences", "300").returncode == 0
    before = (out / "learning.jsonl").read_bytes()
    done = call(*arguments, "--sequences", "700")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "run.json").read_text())["case_ids"]
    assert (out / "learning.jsonl").read_bytes().startswith(before)
    first, longer = load_records(out, LEARNING)
    assert [result.sequences for result in (first, longer)] == [300, 700]
    assert (longer.resumed, longer.evaluation_seconds) == (1, 20)
    assert call(*shared, "--out", tmp_path / "whole", "--sequences", "700").returncode == 0
    (whole,) = load_records(tmp_path / "whole", LEARNING)
    assert whole.run_id == longer.run_id
    assert curve_of(longer) == curve_of(whole)
    assert longer.evaluations == whole.evaluations
    assert longer.validation == whole.validation
    (experiment,) = load_experiments([out])
    assert [result.sequences for result in experiment.runs] == [700]
    for limit in ("700", "300"):
        again = call(*arguments, "--sequences", limit)
        assert "1 of 1 runs are there already" in again.stderr
        assert len(load_records(out, LEARNING)) == 2
    assert call(*arguments, "--sequences", "900", "--seeds", "2").returncode == 2


def test_a_record_says_whether_a_larger_limit_has_more_to_train():
    def case(**changes):
        return LearningCase(**{"task": "copy", "model": "sam", "levels": (1, 2), "sequences": 100, **changes})

    def fulfils(status, asked, **changes):
        ended = case(**changes)
        fields: dict[str, Any] = {"sequences": 100, "wall_s": 9.0, "started_at": "2026-01-01T00:00:00+00:00"}
        return LearningResult(case_id=ended.case_id, case=ended, status=status, **fields).fulfils(asked)

    assert fulfils("budget", case())
    assert fulfils("budget", case(sequences=50))
    assert not fulfils("budget", case(sequences=200))
    assert not fulfils("budget", case(sequences=None, seconds=10))
    assert fulfils("budget", case(sequences=200, seconds=9))
    assert fulfils("ok", case(sequences=200))
    assert not fulfils("ok", case(sequences=200), stop_at_goal=False)
    for status in ("oom", "diverged", "error", "unavailable"):
        assert fulfils(status, case(sequences=200))


@pytest.mark.slow  # a sweep, which stores in the same way, is held to this in tests/cli/test_cli.py
def test_full_disk_stops_clearly(call, tmp_path):
    out = tmp_path / "out"

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    arguments = [*QUICK, "--models", "lstm", "--seeds", "1", "--sequences", "400", "--out", out]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, preexec_fn=small_files, env=environment)
    assert done.returncode == 1, done.stderr
    assert "what finished is kept" in done.stderr
    assert f"--out {out} --resume" in done.stderr
    freed = call(*arguments, "--resume")
    assert freed.returncode == 0, freed.stderr
