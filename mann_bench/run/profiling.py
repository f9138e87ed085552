"""Profile one case in a process of its own and store the profile. This process imports torch while the other one does."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mann_bench.data.case import Case
from mann_bench.data.files import write_atomically
from mann_bench.run.process import WorkerProcess
from mann_bench.run.replies import Failure

if TYPE_CHECKING:
    from mann_bench.measure.profile import Profile, StepPoint


def profile_in_worker(case: Case, folder: Path, memory_bytes: int, seconds: float) -> "Profile | Failure":
    """Profile a case in a process of its own and write profile.json, steps.csv and phases.csv.

    Args:
        folder: where the files go; created if needed.
        memory_bytes: what the process may allocate.
        seconds: what it may take.
    """
    folder.mkdir(parents=True, exist_ok=True)
    worker = WorkerProcess(case.threads)
    try:
        from mann_bench.run.builds import build_kernels, needed_builds
        from mann_bench.run.profiled import Profiled

        build_kernels(needed_builds([case]))
        started = worker.wait_until_started()
        if isinstance(started, Failure):
            return started
        files = str(folder.resolve())
        reply = worker.ask({"do": "profile", "case": case.model_dump(), "memory_bytes": memory_bytes, "folder": files}, seconds, Profiled)
        if isinstance(reply, Failure):
            return reply
    finally:
        worker.quit()
    profile = reply.profile
    write_atomically(folder / "profile.json", profile.model_dump_json(indent=1, by_alias=True))
    _write_csv(folder / "steps.csv", [{**point.model_dump(exclude={"held"}), **_held_columns(point)} for point in profile.points])
    _write_csv(folder / "phases.csv", [phase.model_dump() for phase in profile.phases])
    return profile


def _held_columns(point: "StepPoint") -> dict[str, int]:
    return {f"{cause}_bytes": size_bytes for cause, size_bytes in point.held.items()}


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
