"""Runs a suite: one process a case, cases that will be compared timed in turn, every outcome stored at once.

A comparison is a set of cases that differ in model, variant, kernels or index only, and in what the suite interleaves. Its workers live
side by side and take turns (A B A B), so that a slow minute of the machine falls on all of them.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mann_bench.data.case import Case
from mann_bench.data.result import Check, Memory, Ran, Result, now
from mann_bench.data.sizes import format_bytes, format_slots
from mann_bench.data.store import RunFolder
from mann_bench.data.suite import Budget, Suite
from mann_bench.kernels.index import find_index
from mann_bench.machine.environment import compiler, free_bytes, why_no_device
from mann_bench.measure.predict import predict
from mann_bench.measure.timing import FEWEST, Round, summarize
from mann_bench.run.process import WorkerProcess

HEAP = 4  # times what is predicted: what backward works with, and what a heap of GiB blocks cannot use again
GPU_HEAP = 1.3  # the same on a GPU, whose allocator works with smaller blocks
GPU_PROCESS_BYTES = 2**30  # CUDA context and libraries of a process, and what its allocator keeps
USABLE_MEMORY = 0.8  # of what is free now, for workers living side by side

Announce = Callable[[str], None]


@dataclass
class _Running:
    """A case under way."""

    case: Case
    worker: WorkerProcess
    started_at: str
    prepared: dict[str, Any] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    failure: dict[str, Any] | None = None

    @property
    def timed_s(self) -> float:
        """Spent in timed passes so far."""
        return sum(sum(taken.wall_ms) for taken in self.rounds) / 1e3


def run_suite(suite: Suite, folder: RunFolder, announce: Announce = lambda text: None) -> Iterator[Result]:
    """Run the cases that `folder` does not hold yet; each result is on disk before it is yielded.

    A curve that broke its budget there is not taken up again.
    """
    broken = BrokenCurves(folder.records)
    for comparison in comparisons(suite.cases, suite.interleave):
        to_run = []
        for case in comparison:
            if case.case_id in folder.finished:
                continue
            refusal = refuse(case, suite.budget, broken)
            if refusal is None:
                to_run.append(case)
                continue
            result = record_refusal(case, refusal)
            broken.note(result)
            folder.append(result)
            yield result
        for batch in that_fit(to_run, suite.budget):
            for result in run_side_by_side(batch, suite.budget, announce):
                broken.note(result)
                folder.append(result)
                yield result


def comparisons(cases: list[Case], interleave: tuple[str, ...] = ()) -> list[list[Case]]:
    """Cases that differ in what is compared only (and in the fields of `interleave`), in order of first appearance."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.model_dump_json(exclude={"model", "variant", "kernels", "index", *interleave}), []).append(case)
    return list(groups.values())


class BrokenCurves:
    """Where each curve stopped growing: the smallest N at which it ran out of memory or time."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._stopped: dict[str, Result] = {}
        for result in results:
            self.note(result)

    def note(self, result: Result) -> None:
        """Take a result into account."""
        curve = self._curve(result.case)
        if result.status in ("oom", "timeout") or (result.status == "skipped" and curve not in self._stopped):
            self._stopped.setdefault(curve, result)

    def reason(self, case: Case) -> str | None:
        """Why a case is not tried, or None."""
        stop = self._stopped.get(self._curve(case))
        if stop is None or case.slots <= stop.case.slots:
            return None
        return f"its curve stopped at N = {format_slots(stop.case.slots)} ({stop.status}: {stop.reason})"

    @staticmethod
    def _curve(case: Case) -> str:
        return case.model_dump_json(exclude={"slots"})


def refuse(case: Case, budget: Budget, broken: BrokenCurves) -> dict[str, str] | None:
    """Status and reason of a case that is not even started, or None."""
    if missing := why_unavailable(case.device, case.variant, case.index):
        return {"status": "unavailable", "reason": missing}
    stopped = broken.reason(case)
    if stopped:
        return {"status": "skipped", "reason": stopped}
    size_bytes = predict(case, budget).total_bytes
    if size_bytes is not None and case.device == "cpu" and size_bytes > budget.memory:
        return {"status": "skipped", "reason": f"predicted {format_bytes(size_bytes)}, the budget is {format_bytes(budget.memory)}"}
    return None


def why_unavailable(device: str, variant: str, index: str) -> str | None:
    """What this machine lacks to run a case, or None."""
    missing = why_no_device(device)
    if missing is None and variant == "compiled" and compiler() is None:
        missing = "torch.compile needs a C++ compiler: install g++ or clang++, or set CXX"
    with contextlib.suppress(ValueError):  # an index that there is not: its own process says so
        missing = missing or find_index(index).why_not(device)
    return missing


def run_side_by_side(
    cases: list[Case], budget: Budget, announce: Announce, checkouts: Sequence[Path | None] | None = None
) -> Iterator[Result]:
    """Prepare each case's worker in turn, then time them in interleaved rounds; each on the code of its checkout, if given."""
    code = checkouts or [None] * len(cases)
    running = [_Running(case, WorkerProcess(case.threads, where), now()) for case, where in zip(cases, code, strict=True)]
    try:
        for one in running:
            _note(one, one.worker.wait_until_started())
        for one in running:
            announce(f"{one.case.label}: memory and warm-up")
            command = {
                "do": "prepare",
                "case": one.case.model_dump(exclude_defaults=True),
                "memory_bytes": budget.memory,
                "warmup_s": budget.timing_seconds,
            }
            one.prepared = _ask(one, command, budget) if one.failure is None else {}
        turn = {
            "do": "round",
            "seconds": budget.timing_seconds / budget.rounds,
            "target": budget.target_ci,
            "flush": budget.cache == "flushed",
        }
        for number in range(budget.rounds):
            if number >= FEWEST and all(one.failure or one.timed_s > budget.timing_seconds for one in running):
                break  # a turn is at least a pass, however long
            for one in running if number % 2 == 0 else reversed(running):
                if one.failure is None:
                    announce(f"{one.case.label}: timing")
                    reply = _ask(one, turn, budget)
                    if one.failure is None:
                        one.rounds.append(Round.from_json(reply))
        for one in running:
            one.worker.quit()
            yield _finish(one, budget)
    finally:
        for one in running:
            one.worker.kill()


def _ask(one: _Running, command: dict[str, Any], budget: Budget) -> dict[str, Any]:
    return _note(one, one.worker.ask(command, max(0.1, budget.case_seconds - one.worker.used_s)))


def _note(one: _Running, reply: dict[str, Any]) -> dict[str, Any]:
    if "status" in reply:
        one.failure = reply
        one.worker.kill()  # its memory is of no more use and may be needed
    return reply


def _finish(one: _Running, budget: Budget) -> Result:
    if one.failure is not None:
        return _record(one.case, one.failure, one.started_at, one.worker.used_s, one.prepared)
    warmup_ms, first_ms = one.prepared["warmup_ms"], one.prepared["first_ms"]
    time_ = summarize(one.rounds, warmup_ms, one.case.steps, budget.target_ci, first_ms=first_ms, cache=budget.cache)
    return _record(one.case, {"status": "ok"}, one.started_at, one.worker.used_s, {**one.prepared, "time": time_})


def record_refusal(case: Case, refusal: dict[str, str]) -> Result:
    """The result of a case that was not even started."""
    return _record(case, refusal, now(), 0.0)


def _record(case: Case, outcome: dict[str, Any], started_at: str, wall_s: float, measured: dict[str, Any] | None = None) -> Result:
    measured = {**(measured or {}), **outcome}
    return Result(
        case_id=case.case_id,
        status=outcome["status"],
        reason=measured.get("reason"),
        case=case,
        ran=Ran(**measured["ran"]) if measured.get("ran") else None,
        time=measured.get("time"),
        memory=Memory(**measured["memory"]) if measured.get("memory") else None,
        check=Check(**measured["check"]) if measured.get("check") else None,
        recall=measured.get("recall"),
        started_at=started_at,
        wall_s=round(wall_s, 3),
    )


def that_fit(cases: list[Case], budget: Budget) -> Iterator[list[Case]]:
    """Split a comparison into sets whose predicted bytes fit their device together; a case alone always may try."""
    batch: list[Case] = []
    held = 0.0
    for case in cases:
        predicted_bytes = predict(case, budget).total_bytes or 0
        size_bytes = predicted_bytes * HEAP if case.device == "cpu" else predicted_bytes * GPU_HEAP + GPU_PROCESS_BYTES
        if batch and held + size_bytes > USABLE_MEMORY * free_bytes(case.device):
            yield batch
            batch, held = [], 0.0
        batch.append(case)
        held += size_bytes
    if batch:
        yield batch
