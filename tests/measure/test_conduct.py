"""What a model does besides computing is found, and nothing is found where it only computes."""

import os
import signal
import subprocess
import threading
import time

import pytest
import torch
from torch import Tensor, nn

from mann_bench.data.case import Case
from mann_bench.measure import conduct
from mann_bench.measure.conduct import Answers, Conduct, idle_share
from mann_bench.measure.workload import ModelWorkload


def test_a_process_that_only_computes_has_changed_nothing():
    assert Conduct().changes() == []


@pytest.mark.parametrize(
    ("change", "back", "sentence"),
    [
        (lambda: torch.set_num_threads(2), lambda: torch.set_num_threads(1), "torch's number of threads from 1 to 2"),
        (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32), "torch's default type"),
        (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True), "computes gradients from True to False"),
        (lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False), "deterministic"),
        (lambda: os.chdir("/"), lambda: None, "the working folder from"),
        (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL), "of SIGTERM"),
    ],
)
def test_a_setting_that_was_changed(change, back, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = Conduct()
    try:
        change()
        (found,) = before.changes()
    finally:
        back()
    assert sentence in found


def test_a_clock_that_was_replaced(monkeypatch):
    before = Conduct()
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    (found,) = before.changes()
    assert "changed time.perf_counter" in found


def test_threads_and_processes_that_outlive_a_pass():
    before = Conduct()
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert [sentence.partition(" of the model")[0] for sentence in before.changes()] == ["1 threads", "1 processes"]
    finally:
        go_on.set()
        thread.join()
        process.kill()
        process.wait()
    assert before.changes() == []


def test_work_that_goes_on(monkeypatch):
    used = iter([1.0, 1.04])
    monkeypatch.setattr(conduct, "_sleep", lambda seconds: None)
    monkeypatch.setattr(conduct, "_process_time", lambda: next(used))
    assert idle_share() == pytest.approx(0.04 / conduct.IDLE_S)


class Honest(nn.Module):
    """One layer."""

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_size, output_size)
        self.answers: dict[int, Tensor] = {}

    def forward(self, x, state=None):
        return self.layer(x), state


class Remembers(Honest):
    """Return the output that was kept for the same input object."""

    def forward(self, x, state=None):
        if id(x) not in self.answers:
            self.answers[id(x)] = self.layer(x).detach()
        return self.answers[id(x)] + 0 * self.layer.bias, state


class Scribbles(Honest):
    """Change the input in place."""

    def forward(self, x, state=None):
        y = self.layer(x.clone())
        x.data.mul_(0.5)
        return y, state


class NoNumber(Honest):
    """Return NaN."""

    def forward(self, x, state=None):
        return self.layer(x) * float("nan"), state


@pytest.mark.parametrize(
    ("model", "mode", "sentences"),
    [
        (Honest, "train", []),
        (Honest, "infer", []),
        (Remembers, "train", ["the model's output is the same for other inputs"]),
        (Remembers, "infer", ["the model's output is the same for other inputs"]),
        (Scribbles, "train", ["the model writes into its inputs"]),
        (NoNumber, "train", ["the model's output is not finite"]),
    ],
)
def test_outputs_that_do_not_follow_from_the_inputs(model, mode, sentences, monkeypatch):
    monkeypatch.setattr("mann_bench.data.registry.ModelEntry.build", lambda self, case: model(case.input_size, case.output_size))
    workload = ModelWorkload(Case(suite="s", model="lstm", slots=4, steps=3, mode=mode))
    inputs = workload.inputs.clone()
    answers = Answers(workload)
    first = workload.keep_output()
    workload.run_pass()
    found = answers.findings(first, 1.0)
    assert [sentence.partition(":")[0] for sentence in found] == sentences
    assert torch.equal(workload.inputs, inputs)  # the inputs are restored


def test_reads_of_an_empty_memory_may_be_why():
    workload = ModelWorkload(Case(suite="s", model="sdm", slots=2**14, steps=1, fill="empty", options={"controller": "none"}))
    (found,) = Answers(workload).findings(workload.keep_output(), 1.0)
    assert found.endswith("does it return an earlier one, or read only rows that were never written?")


def test_a_slow_pass_is_not_repeated(monkeypatch):
    workload = ModelWorkload(Case(suite="s", model="lstm", slots=4, steps=3))
    answers, first = Answers(workload), workload.keep_output()
    monkeypatch.setattr(workload, "forward", None)
    assert answers.findings(first, 1e6) == []
