"""The same cases on two states of the code, side by side: from git worktrees, with nothing installed again.

A worker process started in a checkout imports that checkout's code. What the two must share is the worker's commands (`mann_bench.worker`);
a field of a case that an older commit does not know is only sent where it differs from its default.
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.result import Result
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.machine.environment import git_commit
from mann_bench.run.runner import StoppedCurves, fit_batches, precheck, record_refusal, run_side_by_side
from mann_bench.run.session import describe, line

TURN_S = 0.05  # samples of one side before the other's turn
FEWEST_PROCESSES = 2  # a side and case, where more than one was asked for


@dataclass(frozen=True)
class Checkout:
    """A folder holding the project at one state; `name` is what the user called it."""

    name: str
    path: Path

    @property
    def folder_name(self) -> str:
        """Where its results go: `main-1b9aa13`, or `working-tree` for a folder that is not at a commit."""
        commit = git_commit(self.path)
        name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in self.name).strip("-") or "working-tree"
        return f"{name}-{commit['commit'][:7]}" if commit else name


@contextlib.contextmanager
def checked_out(name: str) -> Iterator[Checkout]:
    """A git ref of the repository around the current folder in a worktree of its own, removed afterwards; a folder holding the project as
    it is, uncommitted changes and all. UsageError for anything else.
    """
    if (Path(name) / "mann_bench" / "worker.py").is_file():
        yield Checkout(name, Path(name).resolve())
        return
    root = _git(Path.cwd(), "rev-parse", "--show-toplevel")
    commit = _git(Path.cwd(), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") if root else None
    if not root or not commit:
        raise UsageError(f"compare: expected a git ref (of a repository around here) or a folder with a checkout, got {name!r}")
    with tempfile.TemporaryDirectory(prefix="mann-bench-") as temporary:
        path = Path(temporary) / commit[:12]
        if _git(Path(root), "worktree", "add", "--detach", str(path), commit) is None:
            raise UsageError(f"compare: git could not check out {name!r}; does `git worktree add` work here?")
        try:
            if not (path / "mann_bench" / "worker.py").is_file():
                raise UsageError(f"compare: expected mann_bench/run/worker.py at {name!r}, got a commit without it")
            yield Checkout(name, path)
        finally:
            _git(Path(root), "worktree", "remove", "--force", str(path))


def run_at_both(
    suite: Suite,
    sides: tuple[Checkout, Checkout],
    out: Path,
    processes: int,
    enough: Callable[[list[Result], list[Result]], bool],
    announce: Callable[[str], None],
) -> tuple[Path, Path]:
    """Run every case at both checkouts, timed in turn (A B B A), into one run folder a side; the folders.

    Each case at least twice and up to `processes` times, until its results of both sides are `enough`; each time in new processes, because
    a process may be lucky as a whole: where its memory lies changes its times. Turns are short, so that both meet the same moments of the
    machine.
    """
    turns = max(suite.budget.rounds, round(suite.budget.timing_seconds / TURN_S))
    suite = suite.model_copy(update={"budget": suite.budget.model_copy(update={"rounds": turns})})
    names = [side.folder_name for side in sides]
    names = [f"{letter}-{name}" for letter, name in zip("ab", names, strict=True)] if names[0] == names[1] else names
    descriptions = [describe(suite) for _ in sides]
    for description, side in zip(descriptions, sides, strict=True):
        description["environment"]["git"] = git_commit(side.path)
    folders = [RunFolder(out / name, text, resume=False) for name, text in zip(names, descriptions, strict=True)]
    try:
        broken = StoppedCurves([])
        for number, case in enumerate(suite.cases, 1):
            had: tuple[list[Result], list[Result]] = ([], [])
            for process in range(processes):
                if process >= FEWEST_PROCESSES and enough(*had):
                    break
                refusal = precheck(case, suite.budget, broken)
                if refusal is not None:
                    results = [record_refusal(case, refusal)] * 2
                else:
                    order = [0, 1] if process % 2 == 0 else [1, 0]  # who starts first takes turns
                    ran = list(_run_pair(case, suite.budget, [sides[i].path for i in order]))
                    results = [ran[order.index(i)] for i in range(2)]
                for folder, side, result, so_far in zip(folders, sides, results, had, strict=True):
                    folder.append(result)
                    so_far.append(result)
                    broken.note(result)
                    announce(f"[{number}/{len(suite.cases)}] {side.name}: {line(result)}")
    finally:
        for folder in folders:
            folder.close()
    return folders[0].path, folders[1].path


def _run_pair(case: Case, budget: Budget, checkouts: list[Path]) -> Iterator[Result]:
    """Both side by side, or one after the other where memory does not hold both."""
    waiting = iter(checkouts)
    for batch in fit_batches([case, case], budget):
        yield from run_side_by_side(batch, budget, lambda text: None, [next(waiting) for _ in batch])


def _git(where: Path, *arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
