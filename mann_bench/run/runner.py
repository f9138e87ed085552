"""Run a suite: one process for each case, cases that will be compared timed in turn, every result stored at once.

A comparison is a set of cases that differ only in model, variant, kernels or index, and in the fields that the suite interleaves. Its
workers run side by side and are timed in rounds, one after another in each (A B, B A, ...), so that a slow minute of the machine affects
all of them.
"""

import secrets
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from mann_bench.data.case import CURVE, Case
from mann_bench.data.errors import first_error
from mann_bench.data.fields import Json
from mann_bench.data.registry import find_model
from mann_bench.data.result import Floor, Measured, NotMeasured, Result, now
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.data.units import format_bytes, format_slots
from mann_bench.kernels.index import INDEXES
from mann_bench.machine.cpus import ReservedCpus, deal, pick_cpus
from mann_bench.machine.devices import free_bytes, why_no_device
from mann_bench.machine.software import compiler
from mann_bench.measure.graph import why_no_graph
from mann_bench.measure.predict import predict
from mann_bench.measure.samples import FEWEST
from mann_bench.measure.timing import Round, summarize
from mann_bench.run.builds import build_kernels, needed_builds
from mann_bench.run.process import SAME_CODE, Code, WorkerProcess, most_workers
from mann_bench.run.replies import Copied, Failure, Killed, Prepared, ReplyT

HEAP_OVERHEAD = 4  # safety factor on predicted bytes: backward temporaries, and fragmentation of a heap of GiB blocks
GPU_HEAP_OVERHEAD = 1.3  # the same on a GPU, whose allocator works with smaller blocks
GPU_PROCESS_BYTES = 2**30  # CUDA context and libraries of a process, and what its allocator caches
COPIES_S = 0.1  # of copies after each round of a model with a dense memory
USABLE_MEMORY = 0.8  # part of the free memory that workers side by side may take

Announce = Callable[[Case, str], None]  # what is being done with a case


@dataclass(eq=False)
class _RunningCase:
    """A case that is being measured. After a failure its worker is gone and nothing more is asked of it."""

    case: Case
    code: Code
    worker: WorkerProcess
    started_at: str
    comparison: str
    warnings: list[str]
    prepared: Prepared | None = None
    rounds: list[Round] = field(default_factory=list)
    copy_rates: list[float] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def timed_s(self) -> float:
        """Seconds spent in timed passes so far."""
        return sum(sum(finished.wall_ms) for finished in self.rounds) / 1e3

    @property
    def floor(self) -> Floor | None:
        """The floor of the case with the rate of copies."""
        floor, rates = self.prepared.floor if self.prepared else None, self.copy_rates
        return floor.model_copy(update={"copy_bytes_per_s": statistics.median(rates)}) if floor and rates else floor

    def time_copies(self, budget: Budget) -> None:
        """Have the worker copy memory as large as that of the model, if its floor holds; one of an older commit tells of no floor."""
        if self.prepared is None or (floor := self.prepared.floor) is None or floor.fits_cache:
            return
        command: dict[str, Json] = {"do": "copy", "size_bytes": floor.matrix_bytes, "seconds": COPIES_S}
        if (copied := self.ask(command, budget, Copied)) is not None:
            self.copy_rates += copied.rates

    def ask(self, command: Mapping[str, Json], budget: Budget, kind: type[ReplyT]) -> ReplyT | None:
        """The worker's reply to a command, within what is left of the case's time; None after a failure, which is kept."""
        return self.keep_failure(self.worker.ask(command, max(0.1, budget.case_seconds - self.worker.used_s), kind))

    def keep_failure(self, reply: ReplyT | Failure) -> ReplyT | None:
        """The reply, or None if it is a failure."""
        if not isinstance(reply, Failure):
            return reply
        self.failure = reply
        self.worker.kill()  # others may need its memory
        return None

    def result(self, budget: Budget) -> Result:
        """What came of the case."""
        prepared, wall_s = self.prepared, round(self.worker.used_s, 3)
        if self.failure is not None or prepared is None:
            assert self.failure is not None
            return _not_measured(self.case, self.failure, self.started_at, wall_s, prepared, self.comparison, self.worker.output)
        try:
            return Measured(
                case_id=self.case.case_id,
                reason=prepared.reason,
                case=self.case,
                backend=prepared.backend,
                time=summarize(
                    self.rounds, prepared.warmup_ms, self.case.steps, budget.target_ci, first_ms=prepared.first_ms, cache=budget.cache
                ),
                memory=prepared.memory,
                check=prepared.check,
                recall=prepared.recall,
                floor=self.floor,
                warnings=list(
                    dict.fromkeys([*self.warnings, *prepared.warnings, *(text for part in self.rounds for text in part.warnings)])
                ),
                started_at=self.started_at,
                wall_s=wall_s,
                comparison=self.comparison,
            )
        except ValidationError as error:  # a clock that stands still, say
            failure = Failure(status="error", reason=f"its numbers make no sense: {first_error(error, show_input=False)}")
            return _not_measured(self.case, failure, self.started_at, wall_s, comparison=self.comparison, output=self.worker.output)


def run_suite(suite: Suite, folder: RunFolder, announce: Announce = lambda case, text: None) -> Iterator[Result]:
    """Run the cases that the folder does not hold yet. Each result is on disk before it is yielded.

    Larger N of a curve that ran out of memory or time, in this run or an earlier one of the folder, are skipped.
    """
    stopped = StoppedCurves(folder.records)
    for comparison in comparisons(suite.cases, suite.interleave):
        cases = [case for case in comparison if case.case_id not in folder.finished]
        for result in run_comparison(cases, suite.budget, stopped, announce):
            yield folder.append(result)


def run_comparison(cases: Sequence[Case], budget: Budget, stopped: "StoppedCurves", announce: Announce) -> Iterator[Result]:
    """Measure the cases of one comparison, those first that `precheck` refuses; `stopped` is told of each result."""
    to_run = []
    for case in cases:
        failure = precheck(case, budget, stopped)
        if failure is None:
            to_run.append(case)
            continue
        result = not_started(case, failure)
        stopped.note(result)
        yield result
    for batch in fit_batches(to_run, budget):
        for result in run_side_by_side(batch, budget, announce):
            stopped.note(result)
            yield result


def comparisons(cases: list[Case], interleave: tuple[str, ...] = ()) -> list[list[Case]]:
    """Group the cases that differ only in the fields of CURVE and of `interleave`; groups are in order of first appearance."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.model_dump_json(exclude={*CURVE, *interleave}), []).append(case)
    return list(groups.values())


class StoppedCurves:
    """For each curve the smallest N at which it ran out of memory or time."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._stopped: dict[str, Result] = {}
        for result in results:
            self.note(result)

    def note(self, result: Result) -> None:
        """Register a result."""
        curve = self._curve(result.case)
        if result.status in ("oom", "timeout") or (result.status == "skipped" and curve not in self._stopped):
            self._stopped.setdefault(curve, result)

    def reason(self, case: Case) -> str | None:
        """Why a case need not be tried, or None."""
        stop = self._stopped.get(self._curve(case))
        if stop is None or case.slots <= stop.case.slots:
            return None
        return f"its curve stopped at N = {format_slots(stop.case.slots)} ({stop.status}: {stop.reason})"

    @staticmethod
    def _curve(case: Case) -> str:
        return case.model_dump_json(exclude={"slots"})


def precheck(case: Case, budget: Budget, stopped: StoppedCurves) -> Failure | None:
    """Why a case should not be started, or None: the machine lacks something, its curve has stopped, or it would not fit."""
    if missing := why_not_here(case):
        return Failure(status="unavailable", reason=missing)
    if stop_reason := stopped.reason(case):
        return Failure(status="skipped", reason=stop_reason)
    size_bytes = predict(case, budget).total_bytes
    if size_bytes is not None and case.device == "cpu" and size_bytes > budget.memory:
        reason = f"predicted {format_bytes(size_bytes)}, the budget is {format_bytes(budget.memory)}"
        return Failure(status="skipped", reason=reason)
    return None


def why_not_here(case: Case) -> str | None:
    """What this machine lacks to run a case, as a device or the package of a peer; None if it can be tried."""
    missing = why_no_graph(case) or why_unavailable(case.device, case.variant, case.index)
    return missing or find_model(case.model).why_not(case.device, case.dtype)


def why_unavailable(device: str, variant: str, index: str) -> str | None:
    """What this machine lacks to run a case, or None. What an index of the user's lacks is known in the case's own process only."""
    missing = why_no_device(device)
    if missing is None and variant == "compiled" and compiler() is None:
        missing = "torch.compile needs a C++ compiler: install g++ or clang++, or set CXX"
    if missing is None and index in INDEXES:
        missing = INDEXES[index].why_not(device)
    return missing


def run_side_by_side(
    cases: list[Case],
    budget: Budget,
    announce: Announce,
    codes: Sequence[Code] | None = None,
    *,
    retry: bool = True,
) -> Iterator[Result]:
    """Measure the cases of one comparison: prepare each in a worker of its own, then time them in turn, round by round.

    Args:
        announce: called with a case and what is being done with it.
        codes: what each case runs, its kernels built already; by default the code of this process.
        retry: a case whose worker somebody kills (`Killed`) gets a second try, alone.

    Yields:
        The results in the order of the cases, after the last round; those of second tries last.
    """
    if codes is None:
        codes = [SAME_CODE] * len(cases)
        build_kernels(needed_builds(cases))
    comparison = secrets.token_hex(8)
    running: list[_RunningCase] = []
    threads = [case.threads for case in cases]
    reserved = ReservedCpus(max(threads), sum(threads) if all_on_gpus(cases) else 0)
    try:
        for case, code, cpus in zip(cases, codes, processors_of(cases, reserved.cpus), strict=True):
            worker = WorkerProcess(case.threads, code, cpus)
            running.append(_RunningCase(case, code, worker, now(), comparison, warnings=shared_cpus(reserved.shared)))
        for item in running:
            item.keep_failure(item.worker.wait_until_started())
        for item in running:
            announce(item.case, "memory and warm-up")
            if item.failure is None:
                item.prepared = item.ask(prepare_command(item.case, budget.memory, budget.timing_seconds), budget, Prepared)
        for number in range(budget.rounds):
            if number >= FEWEST and all(item.failure or item.timed_s > budget.timing_seconds for item in running):
                break  # a round takes at least one pass, however long that is
            _time_round(running if number % 2 == 0 else running[::-1], budget, announce)
        killed = [item for item in running if retry and isinstance(item.failure, Killed)]
        for item in running:
            if item not in killed:
                item.worker.quit()
                yield item.result(budget)
    finally:
        for item in running:
            item.worker.kill()
        reserved.release()
    for item in killed:
        yield from run_side_by_side([item.case], budget, announce, [item.code], retry=False)


def processors_of(cases: Sequence[Case], cpus: Sequence[int]) -> list[list[int]]:
    """Processors for the worker of each case. On a CPU all have the same, as they are timed in turn and processors differ.

    On a GPU, where processors only issue the work, each has others as far as there are enough: workers start side by side.
    """
    threads = [case.threads for case in cases]
    return deal(cpus, threads) if all_on_gpus(cases) else [pick_cpus(cpus, count) for count in threads]


def all_on_gpus(cases: Sequence[Case]) -> bool:
    """Whether all cases compute on GPUs."""
    return all(case.device.startswith("cuda") for case in cases)


def shared_cpus(cpus: Sequence[int]) -> list[str]:
    """A warning where another mann-bench measures on the same processors."""
    names = ", ".join(map(str, cpus))
    return [f"another mann-bench used processor {names} at the same time; rerun when it has ended, or give fewer --threads"] if cpus else []


def prepare_command(case: Case, memory_bytes: int, warmup_s: float) -> dict[str, Json]:
    """The command to build a case, measure its memory and warm it up; for workers of older commits too, which may lack newer fields."""
    return {"do": "prepare", "case": case.model_dump(exclude_defaults=True), "memory_bytes": memory_bytes, "warmup_s": warmup_s}


def _time_round(running: list[_RunningCase], budget: Budget, announce: Announce) -> None:
    """Time passes of each case that has not failed."""
    command: dict[str, Json] = {
        "do": "round",
        "seconds": budget.timing_seconds / budget.rounds,
        "target": budget.target_ci,
        "flush": budget.cache == "flushed",
    }
    for item in running:
        if item.failure is None:
            announce(item.case, "timing")
            if (finished := item.ask(command, budget, Round)) is not None:
                item.rounds.append(finished)
                item.time_copies(budget)


def not_started(case: Case, failure: Failure) -> Result:
    """The result of a case that `precheck` refused."""
    return _not_measured(case, failure, now(), 0.0)


def _not_measured(
    case: Case,
    failure: Failure,
    started_at: str,
    wall_s: float,
    prepared: Prepared | None = None,
    comparison: str | None = None,
    output: str | None = None,
) -> NotMeasured:
    return NotMeasured(
        case_id=case.case_id,
        status=failure.status,
        reason=failure.reason,
        case=case,
        backend=prepared.backend if prepared else None,
        memory=prepared.memory if prepared else None,
        check=prepared.check if prepared else failure.check,
        recall=prepared.recall if prepared else None,
        warnings=prepared.warnings if prepared else [],
        output=output,
        started_at=started_at,
        wall_s=wall_s,
        comparison=comparison,
    )


def fit_batches(cases: list[Case], budget: Budget) -> Iterator[list[Case]]:
    """Split a comparison into batches whose workers this machine can run together. A case that fits nowhere is a batch of its own.

    Their predicted bytes fit their device, and this process may open the files that it needs for them.
    """
    batch: list[Case] = []
    batch_bytes = 0.0
    for case in cases:
        predicted_bytes = predict(case, budget).total_bytes or 0
        size_bytes = predicted_bytes * HEAP_OVERHEAD if case.device == "cpu" else predicted_bytes * GPU_HEAP_OVERHEAD + GPU_PROCESS_BYTES
        if batch and (batch_bytes + size_bytes > USABLE_MEMORY * free_bytes(case.device) or len(batch) == most_workers(case.threads)):
            yield batch
            batch, batch_bytes = [], 0.0
        batch.append(case)
        batch_bytes += size_bytes
    if batch:
        yield batch
