"""Checkpoints that are valid, missing, damaged or of another run: the run resumes, or starts again and records why."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from mann_bench.learn.trainer import start_or_resume
from mann_bench.suites.tasks import find_task
from tests.support.training import after, make, small_case


class Hostile:
    """An object whose unpickling runs code."""

    def __reduce__(self):
        return (os.mkdir, ("ran",))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A checkpoint of `small_case()` after two batches."""
    path = tmp_path_factory.mktemp("sound") / "checkpoint.pt"
    make(small_case()).run(path, should_stop=after(2))
    return path


def spoil(kind, path):
    """Damage a valid checkpoint."""
    content = path.read_bytes()
    checkpoint = torch.load(path, weights_only=True)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "half-written":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "overwritten":
        path.write_bytes(content[:100] + bytes(200) + content[300:])
    elif kind == "text":
        path.write_text("no checkpoint")
    elif kind == "code":
        torch.save({**checkpoint, "run_id": Hostile()}, path)
    elif kind == "a list":
        torch.save([1, 2], path)
    elif kind == "of another program":
        torch.save({"epoch": 3}, path)
    elif kind == "of another run":
        torch.save({**checkpoint, "run_id": "0" * 16}, path)
    elif kind == "of another model":
        torch.save({**checkpoint, "model": {}}, path)
    elif kind == "a folder":
        path.unlink()
        path.mkdir()


KINDS = ["empty", "half-written", "overwritten", "text", "code", "a list", "of another program", "of another run", "of another model"]


@pytest.mark.parametrize("kind", [*KINDS, "a folder"])
def test_a_checkpoint_that_cannot_be_used_is_one_sentence_and_a_new_start(kind, sound, tmp_path, monkeypatch):
    path = Path(shutil.copy(sound, tmp_path / "checkpoint.pt"))
    spoil(kind, path)
    monkeypatch.chdir(tmp_path)
    trainer, why = start_or_resume(small_case(), find_task("copy"), path)
    assert str(why).startswith(f"{path}: expected ")
    assert str(why).endswith("; the run started anew")
    assert "\n" not in str(why)
    assert "weights_only" not in str(why)
    assert not (tmp_path / "ran").exists()
    assert (trainer.step, trainer.resumed, trainer.curve) == (0, 0, [])
    for (name, expected), got in zip(make(small_case()).model.state_dict().items(), trainer.model.state_dict().values(), strict=True):
        assert torch.equal(expected, got), name


def test_a_sound_checkpoint_is_used_and_a_missing_one_is_a_first_start(sound, tmp_path):
    resumed, why = start_or_resume(small_case(), find_task("copy"), sound)
    assert (resumed.step, resumed.resumed, why) == (2, 1, None)
    first, why = start_or_resume(small_case(), find_task("copy"), tmp_path / "none.pt")
    assert (first.step, why) == (0, None)


def test_what_killed_writers_left_is_removed(sound, tmp_path):
    path = Path(shutil.copy(sound, tmp_path / "checkpoint.pt"))
    torn, other = (tmp_path / name for name in ("checkpoint.pt.0a1b2c3d.part", "other.pt.0a1b2c3d.part"))
    for left in (torn, other):
        left.write_bytes(b"half")
    start_or_resume(small_case(), find_task("copy"), path)
    assert sorted(tmp_path.iterdir()) == [path, other]
