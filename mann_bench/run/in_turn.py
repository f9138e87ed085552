"""Run the cases of both sides of a comparison, timed in turn; nothing is installed.

A worker process started in a checkout of mann-bench imports that checkout's code. Both must understand the worker's commands
(`mann_bench.worker`). Fields of a case are only sent if they differ from their default, because an older commit may not know them.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mann_bench.data.case import Case
from mann_bench.data.labels import Labels
from mann_bench.data.result import Result
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.kernels.native.build import COMPILE_S
from mann_bench.machine.git import git_commit
from mann_bench.run.builds import build_kernels, build_of, needed_builds
from mann_bench.run.process import Code, WorkerProcess
from mann_bench.run.replies import Failure, Prepared
from mann_bench.run.runner import StoppedCurves, fit_batches, not_started, precheck, prepare_command, run_side_by_side
from mann_bench.run.session import describe, line
from mann_bench.run.sides import Side

ROUND_S = 0.05  # time of samples of one side in a round
FEWEST_PROCESSES = 2  # for each side and case, unless fewer are allowed


def run_in_turn(
    suites: tuple[Suite, Suite],
    sides: tuple[Side, Side],
    out: Path,
    processes: int,
    enough: Callable[[list[Result], list[Result]], bool],
    announce: Callable[[str], None],
) -> tuple[Path, Path]:
    """Run each case on both sides, timed in turn (A B, B A, ...) in many short rounds, so that both sides meet the same moments.

    A case is repeated in new processes, because all times of a process may be shifted: they depend on where its memory lies.

    Args:
        suites: what each side runs; the n-th cases of both are timed in turn.
        out: folder for the two run folders.
        processes: how often a case is run at most; the least is FEWEST_PROCESSES.
        enough: whether a case's results of both sides suffice.
        announce: called with each result as a line.

    Returns:
        The run folders of both sides.
    """
    budget = suites[0].budget
    budget = budget.model_copy(update={"rounds": max(budget.rounds, round(budget.timing_seconds / ROUND_S))})
    names = [side.folder_name for side in sides]
    names = [f"{letter}-{name}" for letter, name in zip("ab", names, strict=True)] if names[0] == names[1] else names
    descriptions = [describe(suite.model_copy(update={"budget": budget})) for suite in suites]
    for description, side in zip(descriptions, sides, strict=True):
        if side.root is not None:
            description["environment"]["git"] = git_commit(side.root)
    folders = [RunFolder(out / name, text, resume=False) for name, text in zip(names, descriptions, strict=True)]
    pairs = list(zip(*(suite.cases for suite in suites), strict=True))
    try:
        for side, suite in zip(sides, suites, strict=True):
            build_kernels_of(side, suite.cases)
        stopped, labels = StoppedCurves([]), Labels(case for pair in pairs for case in pair)
        for number, pair in enumerate(pairs, 1):
            results: tuple[list[Result], list[Result]] = ([], [])
            for process in range(processes):
                if process >= FEWEST_PROCESSES and enough(*results):
                    break
                failure = next(filter(None, (precheck(case, budget, stopped) for case in pair)), None)
                if failure is not None:
                    both = [not_started(case, failure) for case in pair]
                else:
                    order = [0, 1] if process % 2 == 0 else [1, 0]  # sides alternate in starting first
                    in_order = list(_run_pair([pair[i] for i in order], budget, [sides[i].code for i in order]))
                    both = [in_order[order.index(i)] for i in range(2)]
                for folder, side, result, side_results in zip(folders, sides, both, results, strict=True):
                    folder.append(result)
                    side_results.append(result)
                    stopped.note(result)
                    announce(f"[{number}/{len(pairs)}] {side.name}: {line(result, labels)}")
    finally:
        for folder in folders:
            folder.close()
    return folders[0].path, folders[1].path


def build_kernels_of(side: Side, cases: Sequence[Case]) -> None:
    """Compile the native kernels that the cases of a side may use, so that no case's time goes into it.

    A checkout of mann-bench does it itself: a worker runs a small SAM or NTM, which an older commit understands too. If that fails, the
    cases tell why.
    """
    if side.is_own:
        build_kernels(needed_builds(cases))
        return
    needed = dict.fromkeys((build_of(case, case.dtype), case.device) for case in cases)
    for library, device in needed:
        if library is None:
            continue
        model = "ntm" if library.dense else "sam"
        case = Case(suite="build", model=model, slots=64, steps=2, dtype=library.dtype, device=device)
        worker = WorkerProcess(case.threads, side.code)
        try:
            if not isinstance(worker.wait_until_started(), Failure):
                worker.ask(prepare_command(case, Budget().memory, 0.0), COMPILE_S, Prepared)
        finally:
            worker.quit()


def _run_pair(pair: list[Case], budget: Budget, codes: list[Code]) -> Iterator[Result]:
    """Both side by side, or one after the other where memory does not hold both. A second try of one alone would compare other moments."""
    waiting = iter(codes)
    for batch in fit_batches(pair, budget):
        yield from run_side_by_side(batch, budget, lambda case, text: None, [next(waiting) for _ in batch], retry=False)
