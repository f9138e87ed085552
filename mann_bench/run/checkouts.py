"""Run the same cases on two states of the code side by side, from git worktrees; nothing is installed.

A worker process started in a checkout imports that checkout's code. Both must understand the worker's commands (`mann_bench.worker`).
Fields of a case are only sent if they differ from their default, because an older commit may not know them.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.labels import Labels
from mann_bench.data.registry import BUILT_INS
from mann_bench.data.result import Result
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.kernels.native.build import COMPILE_S
from mann_bench.machine.git import GitError, git_commit, run_git, why_unknown
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure, Prepared
from mann_bench.run.runner import StoppedCurves, fit_batches, not_started, precheck, prepare_command, run_side_by_side
from mann_bench.run.session import describe, line

ROUND_S = 0.05  # time of samples of one side in a round
FEWEST_PROCESSES = 2  # for each side and case, unless fewer are allowed


@dataclass(frozen=True)
class Checkout:
    """A folder that holds the project in one state; `name` is as the user wrote it."""

    name: str
    path: Path

    @property
    def folder_name(self) -> str:
        """Name of the folder for its results: `main-1b9aa13`, or `working-tree` for a folder without commits."""
        commit = git_commit(self.path)
        name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in self.name).strip("-") or "working-tree"
        return f"{name}-{commit['commit'][:7]}" if commit and "commit" in commit else name


@contextlib.contextmanager
def checked_out(name: str) -> Iterator[Checkout]:
    """Check out a git ref of the repository around the current folder into a temporary worktree. A folder is used as it is.

    Raises:
        UsageError: the name is neither, or the commit has no worker.
    """
    if (Path(name) / "mann_bench" / "worker.py").is_file():
        yield Checkout(name, Path(name).resolve())
        return
    here = Path.cwd()
    try:
        root = Path(run_git(here, "rev-parse", "--show-toplevel"))
        commit = run_git(here, "rev-parse", "--verify", f"{name}^{{commit}}")
    except GitError as error:
        expected = f"expected a git ref (of a repository around here) or a folder with a checkout, got {name!r}"
        raise UsageError(f"compare: {expected} ({error}){why_unknown(here)}") from error
    with tempfile.TemporaryDirectory(prefix="mann-bench-") as temporary:
        path = Path(temporary) / commit[:12]
        try:
            try:
                run_git(root, "worktree", "add", "--detach", str(path), commit)
            except GitError as error:
                raise UsageError(f"compare: git could not check out {name!r} ({error}); does `git worktree add` work here?") from error
            if not (path / "mann_bench" / "worker.py").is_file():
                raise UsageError(f"compare: expected mann_bench/worker.py at {name!r}, got a commit without it")
            yield Checkout(name, path)
        finally:
            with contextlib.suppress(GitError):
                run_git(root, "worktree", "remove", "--force", str(path))


def run_at_both(
    suite: Suite,
    sides: tuple[Checkout, Checkout],
    out: Path,
    processes: int,
    enough: Callable[[list[Result], list[Result]], bool],
    announce: Callable[[str], None],
) -> tuple[Path, Path]:
    """Run each case at both checkouts, timed in turn (A B, B A, ...) in many short rounds, so that both sides meet the same moments.

    A case is repeated in new processes, because all times of a process may be shifted: they depend on where its memory lies.

    Args:
        out: folder for the two run folders.
        processes: how often a case is run at most; the least is FEWEST_PROCESSES.
        enough: whether a case's results of both sides suffice.
        announce: called with each result as a line.

    Returns:
        The run folders of both sides.
    """
    rounds = max(suite.budget.rounds, round(suite.budget.timing_seconds / ROUND_S))
    suite = suite.model_copy(update={"budget": suite.budget.model_copy(update={"rounds": rounds})})
    names = [side.folder_name for side in sides]
    names = [f"{letter}-{name}" for letter, name in zip("ab", names, strict=True)] if names[0] == names[1] else names
    descriptions = [describe(suite) for _ in sides]
    for description, side in zip(descriptions, sides, strict=True):
        description["environment"]["git"] = git_commit(side.path)
    folders = [RunFolder(out / name, text, resume=False) for name, text in zip(names, descriptions, strict=True)]
    try:
        for side in sides:
            build_kernels_of(side, suite.cases)
        stopped, labels = StoppedCurves([]), Labels(suite.cases)
        for number, case in enumerate(suite.cases, 1):
            results: tuple[list[Result], list[Result]] = ([], [])
            for process in range(processes):
                if process >= FEWEST_PROCESSES and enough(*results):
                    break
                failure = precheck(case, suite.budget, stopped)
                if failure is not None:
                    pair = [not_started(case, failure)] * 2
                else:
                    order = [0, 1] if process % 2 == 0 else [1, 0]  # sides alternate in starting first
                    in_order = list(_run_pair(case, suite.budget, [sides[i].path for i in order]))
                    pair = [in_order[order.index(i)] for i in range(2)]
                for folder, side, result, side_results in zip(folders, sides, pair, results, strict=True):
                    folder.append(result)
                    side_results.append(result)
                    stopped.note(result)
                    announce(f"[{number}/{len(suite.cases)}] {side.name}: {line(result, labels)}")
    finally:
        for folder in folders:
            folder.close()
    return folders[0].path, folders[1].path


def build_kernels_of(side: Checkout, cases: list[Case]) -> None:
    """Let a checkout compile the native kernels that the cases may use, so that no case's time goes into it.

    A worker of its own runs a small SAM, which an older commit understands too. If that fails, the cases tell why.
    """
    with_kernels = [
        case
        for case in cases
        if case.kernels == "native" or (case.kernels == "auto" and (case.model not in BUILT_INS or BUILT_INS[case.model].uses_index))
    ]
    for dtype, device in dict.fromkeys((case.dtype, case.device) for case in with_kernels):
        case = Case(suite="build", model="sam", slots=64, steps=2, dtype=dtype, device=device)
        worker = WorkerProcess(case.threads, side.path)
        try:
            if not isinstance(worker.wait_until_started(), Failure):
                worker.ask(prepare_command(case, Budget().memory, 0.0), COMPILE_S, Prepared)
        finally:
            worker.quit()


def _run_pair(case: Case, budget: Budget, checkouts: list[Path]) -> Iterator[Result]:
    """Both side by side, or one after the other where memory does not hold both. A second try of one alone would compare other moments."""
    waiting = iter(checkouts)
    for batch in fit_batches([case, case], budget):
        yield from run_side_by_side(batch, budget, lambda case, text: None, [next(waiting) for _ in batch], retry=False)
