"""Kill training sessions again and again, at random, and go on with them: each run's curve is that of a run that was never killed.

python -m tests.endurance.training_kills KILLS [--seed N] [--jobs N] [--out FILE]      FILE: counts and faults as JSON, after every session
"""

import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mann_bench.data.store import load_records
from mann_bench.learn.record import LEARNING, LearningCase, LearningResult
from tests.endurance.forking import Forker
from tests.endurance.killing import APPENDING_S, ROOT, Tally, Trial, in_threads, main

SIZES = ["--levels", "1-2", "--hidden", "8", "--slots", "8", "--word-size", "6", "--heads", "2", "--reads", "2", "--batch", "4"]
COMMAND = ["learn", "copy", "--models", "lstm,sam", "--seeds", "1", *SIZES, "--sequences", "4000", "--checkpoint-seconds", "0.1"]
RUNS = 2
SAME = ("sequences", "level", "evaluations", "validation", "parameters", "answer")  # fields of a result that no kill may change


class Training(Trial):
    """A training session, whose checkpoints are checked after every end against those of a session that was not killed."""

    waits = ("at once", "start", "start", "checkpoint", "checkpoint", "checkpoint", "record", "after a record")

    def __init__(self, forker: Forker, folder: Path, jobs: int) -> None:
        command = [*COMMAND, "--jobs", str(jobs)]
        super().__init__(forker, folder, command, LEARNING.file, RUNS, lambda record: LearningCase(**record["case"]).run_id)
        self.steps: dict[str, int] = {}  # that a checkpoint has been seen to stand at, by its run

    def wait(self, how: str, chance: random.Random) -> float | None:
        if how != "checkpoint":
            return super().wait(how, chance)
        before = self.checkpoints()
        while self.driver.poll() is None and self.checkpoints() == before:
            time.sleep(0.0005)
        time.sleep(chance.choice((0.0, chance.uniform(0, 0.3))))
        return None

    def checkpoints(self) -> dict[str, int]:
        """Names of the files in the folder of checkpoints, whole ones and others, with the inode of each."""
        folder = self.out / "checkpoints"
        return {path.name: path.stat().st_ino for path in folder.iterdir() if path.exists()} if folder.exists() else {}

    def moment(self, grown_s: float | None) -> str:
        if any(name.endswith(".part") for name in self.checkpoints()):
            return "while a checkpoint is written"
        if grown_s is not None and time.monotonic() - grown_s < APPENDING_S:
            return "while appending"
        if not (self.out / "run.json").exists():
            return "before run.json"
        if not self.checkpoints():
            return "before the first checkpoint"
        return "after the last record" if self.stored.count(b"\n") >= self.total else "between checkpoints"


class Expected:
    """What becomes of the runs of a session that nobody kills."""

    def __init__(self, forker: Forker) -> None:
        with tempfile.TemporaryDirectory() as name:
            session = Training(forker, Path(name), RUNS)
            session.run(random.Random(0), Tally(0, 0, None))
            assert session.faults == [], session.faults
            self.results = {result.run_id: result for result in load_records(session.out, LEARNING)}
            self.checkpoints = {run_id: load_checkpoint(session, run_id) for run_id in self.results}

    def check(self, session: Training) -> dict[str, int]:
        """Compare a complete session; returns counts."""
        ok = twice = 0
        for result in load_records(session.out, LEARNING):
            expected = self.results[result.run_id]
            points, wanted = curve_of(result), curve_of(expected)
            if result.status == "error":
                twice += 1
                reasons = {f"killed by {number.name}" for number in signal.Signals}
                if 2 * twice > session.at_workers or result.reason not in reasons or points != wanted[: len(points)]:
                    session.fault(f"after {session.at_workers} kills of workers a run failed: {result.reason}, {len(points)} points")
                continue
            ok += 1
            if result.status != expected.status or points != wanted:
                session.fault(f"{result.case.name}: {result.status}, its curve differs from that of a run that was not killed")
            if differing := [name for name in SAME if getattr(result, name) != getattr(expected, name)]:
                session.fault(f"{result.case.name}: {', '.join(differing)} differ from those of a run that was not killed")
            if not same(load_checkpoint(session, result.run_id), self.checkpoints[result.run_id]):
                session.fault(f"{result.case.name}: its last checkpoint differs from that of a run that was not killed")
        if left := [str(path) for path in session.out.rglob("*.part")]:
            session.fault(f"files are left: {left}")
        return {"runs_ok": ok, "runs_killed_twice": twice}

    def check_checkpoints(self, session: Training) -> None:
        """What is on disk between two starts: whole, no further back than before, and with a part of the curve of a run not killed."""
        for run_id, expected in self.results.items():
            if (session.out / "checkpoints" / f"{run_id}.pt").exists():
                checkpoint = load_checkpoint(session, run_id)
                points, wanted = [judged(point) for point in checkpoint["curve"]], curve_of(expected)
                if checkpoint["step"] < session.steps.get(run_id, 0) or points != wanted[: len(points)]:
                    session.fault(f"{expected.case.name}: its checkpoint at step {checkpoint['step']} has lost or changed something")
                session.steps[run_id] = checkpoint["step"]


def curve_of(result: LearningResult) -> list[dict[str, Any]]:
    """The points of a curve without their time, which kills do change."""
    return [judged(point.model_dump()) for point in result.curve]


def judged(point: dict[str, Any]) -> dict[str, Any]:
    """A point of a curve without its time."""
    return {name: value for name, value in point.items() if name != "wall_s"}


def load_checkpoint(session: Training, run_id: str) -> Any:
    """The content of a checkpoint, without what kills do change."""
    checkpoint = torch.load(session.out / "checkpoints" / f"{run_id}.pt", weights_only=True)
    changing = ("wall_s", "resumed", "peak_bytes", "goal")
    return {name: value for name, value in checkpoint.items() if name not in changing}


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints are equal, tensors to the bit; points of curves without their time."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        a, b = judged(a), judged(b)
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def run(kills: int, seed: int = 0, jobs: int = 1, file: Path | None = None) -> dict[str, Any]:
    """Make so many kills; return counts of what was done, and the faults found."""
    torch.set_num_threads(1)
    tally = Tally(kills, seed, file)
    with Forker(ROOT) as forker:
        expected = Expected(forker)

    def trial(forker: Forker, chance: random.Random) -> None:
        with tempfile.TemporaryDirectory() as name:
            session = Training(forker, Path(name), chance.choice((1, RUNS)))
            session.after_end = lambda: expected.check_checkpoints(session)
            session.run(chance, tally)
            counts = {"sessions": 1, "starts": session.starts, "new_interpreters": session.new_starts}
            tally.close(session.faults, **counts, **expected.check(session))

    in_threads(jobs, trial, tally)
    return tally.summary()


if __name__ == "__main__":
    main(__doc__, run)
