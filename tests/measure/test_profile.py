"""Profiles: how steps are found for each kind of model, that parts add up, and what files and page hold."""

import csv
import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from mann_bench.data.case import Case
from mann_bench.measure.ledger import CAUSES
from mann_bench.measure.profile import Profile, profile_case, snapshot
from mann_bench.measure.workload import ModelWorkload
from mann_bench.models.phases import phase, steps
from mann_bench.reports.profile.page import sentences, write_profile_page
from mann_bench.run.profiling import profile_in_worker
from mann_bench.run.replies import Failure

BYTES_A_STEP = 2**18


class Memory(nn.Module):
    """A user's module: any module called on [T, B, X]; keeps 256 KiB a step for backward."""

    def __init__(self, input_size: int, output_size: int, whole: bool = False) -> None:
        super().__init__()
        self.layer, self.scale, self.whole = nn.Linear(input_size, output_size), nn.Parameter(torch.ones(1)), whole

    def forward(self, x, state):
        if self.whole and len(x) < 2:
            raise ValueError("whole sequences only")
        kept = [(torch.ones(BYTES_A_STEP // 4) * self.scale).sum() * 0 for _ in x]
        return self.layer(x) + torch.stack(kept).sum(), state


class Named(Memory):
    """A user's module that names its steps and their phases, as the guide says."""

    def forward(self, x, state):
        outputs = []
        for row in steps(x):
            with phase("addressing"):
                weights = (row * self.scale).softmax(dim=-1)
            with phase("read"):
                outputs.append(self.layer(weights))
            with phase("a name of its own"):
                outputs[-1] = outputs[-1].exp().exp()
        return torch.stack(outputs), state


def take(model, tmp_path, **changes):
    return profile_case(Case(**{"suite": "profile", "model": model, "slots": 64, "steps": 6, **changes}), tmp_path)


def held(profile, cause, direction="forward"):
    return [point.held[cause] for point in sorted(profile.points, key=lambda p: p.step) if point.direction == direction]


@pytest.mark.parametrize("mode", ["train", "infer"])
def test_a_model_that_names_its_steps(tmp_path, mode):
    profile = take("ntm", tmp_path, mode=mode, kernels="torch")
    assert profile.how == "steps of one pass"
    directions = ["forward", "backward"] if mode == "train" else ["forward"]
    assert [(p.direction, p.step) for p in profile.points if p.direction == "forward"] == [("forward", step) for step in range(1, 7)]
    assert {p.direction for p in profile.points} == set(directions) == set(profile.pass_ms)
    assert {(row.direction, row.phase) for row in profile.phases} >= {
        (direction, phase) for direction in directions for phase in ("controller", "addressing", "write", "read")
    }
    assert sum(row.share for row in profile.phases) == pytest.approx(1)
    assert sum(row.host_ms for row in profile.phases) == pytest.approx(sum(profile.recorded_ms.values()), rel=0.05)
    tape = held(profile, "tape")
    if mode == "train":
        growth = {after - before for before, after in pairwise(tape)}
        assert max(growth) == pytest.approx(profile.memory.bytes_per_step, rel=0.05)
        assert held(profile, "tape", "backward")[0] < tape[0]
    else:
        assert set(tape) == {0}
    assert all(point.peak_bytes >= sum(point.held.values()) for point in profile.points)
    assert all(set(point.held) == set(CAUSES) for point in profile.points)
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"controller", "addressing", "write", "read", "forward"} <= names


def test_a_native_sequence_is_measured_at_growing_lengths(tmp_path):
    profile = take("sam", tmp_path, slots=256, steps=16)
    if profile.backend.kernels != "native":
        pytest.skip("no native kernels here")
    assert profile.how == "passes of growing length"
    steps = [point.step for point in profile.points if point.direction == "forward"]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16]
    tape = held(profile, "tape")
    growth = [(after - before) / 2 for before, after in pairwise(tape)]
    assert growth == pytest.approx([profile.memory.bytes_per_step] * 7, rel=0.1)
    assert "own clocks" in profile.phases_of
    found = {(row.direction, row.phase) for row in profile.phases}
    assert found >= {("forward", phase) for phase in ("controller", "write", "search", "addressing", "read")}
    assert found >= {("backward", phase) for phase in ("controller", "write", "read", "rollback")}
    assert sum(row.share for row in profile.phases) == pytest.approx(1)
    assert profile.predicted is not None
    assert profile.predicted["tape"] == pytest.approx(16 * profile.memory.bytes_per_step, rel=0.001)


def test_a_users_module_is_called_once_a_step(tmp_path):
    profile = take(f"{__name__}:Memory", tmp_path)
    assert profile.how == "one call a step"
    tape = held(profile, "tape")
    assert [after - before for before, after in pairwise(tape)] == pytest.approx([BYTES_A_STEP] * 5, rel=0.01)
    assert any(line.startswith("What is held, where the model is called a step at a time, is rising: ") for line in sentences(profile))
    assert {cause for cause, size in profile.memory.ledger.items() if size} <= {"parameters", "gradients", "inputs", "tape", "workspace"}
    assert profile.predicted is None


def test_phases_that_a_user_names(tmp_path):
    profile = take(f"{__name__}:Named", tmp_path)
    assert profile.how == "steps of one pass"
    assert [point.step for point in profile.points if point.direction == "forward"] == [1, 2, 3, 4, 5, 6]
    for direction in ("forward", "backward"):
        assert {row.phase for row in profile.phases if row.direction == direction} == {"addressing", "read", "rest"}
    assert sum(row.share for row in profile.phases) == pytest.approx(1)


def test_a_module_that_insists_on_whole_sequences(tmp_path, monkeypatch):
    monkeypatch.setattr("mann_bench.measure.workload.ModelWorkload.smoke_test", lambda self: None)
    monkeypatch.setattr(Memory.__init__, "__defaults__", (True,))
    profile = take(f"{__name__}:Memory", tmp_path, steps=16)
    assert profile.how == "passes of growing length"
    assert held(profile, "tape")[-1] == pytest.approx(16 * BYTES_A_STEP, rel=0.01)


def test_files_page_and_sentences(tmp_path):
    profile = profile_in_worker(Case(suite="profile", model="dnc", kernels="torch", slots=64, steps=5), tmp_path, 2**32, 120)
    assert isinstance(profile, Profile), profile
    assert Profile(**json.loads((tmp_path / "profile.json").read_text())) == profile
    rows = list(csv.DictReader((tmp_path / "steps.csv").read_text().splitlines()))
    assert [row["direction"] for row in rows] == ["forward"] * 5 + ["backward"] * 5
    assert int(rows[0]["link_bytes"]) >= 64 * 64 * 4
    assert len(list(csv.DictReader((tmp_path / "phases.csv").read_text().splitlines()))) == len(profile.phases)
    page = write_profile_page(profile, tmp_path).read_text()
    for words in ("dnc, N = 64", "Ledger of the peak", "unattributed", "tape", "trace.json", "<svg", *sentences(profile)[:1]):
        assert words in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")
    assert "is rising" in " ".join(sentences(profile))
    assert write_profile_page(profile, tmp_path).read_text() == page


def test_a_profile_that_runs_out_of_memory_is_a_failure_with_a_reason(tmp_path):
    failure = profile_in_worker(Case(suite="profile", model="ntm", slots=2**22, steps=5), tmp_path, 2**29, 120)
    assert isinstance(failure, Failure)
    assert failure.status == "oom"


def test_the_history_of_the_allocator_is_always_ended(monkeypatch, tmp_path):
    """It is ended even if its start fails halfway, because it would slow the rest of the process."""
    calls = []

    def record(enabled="all", max_entries=None):
        calls.append(enabled)
        if enabled is not None:
            raise RuntimeError("started, and then something went wrong")

    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record)
    workload = ModelWorkload(Case(suite="s", model="lstm", slots=4, steps=2))
    with pytest.raises(RuntimeError, match="went wrong"):
        snapshot(workload, tmp_path / "snapshot.pickle")
    assert calls == ["all", None]
