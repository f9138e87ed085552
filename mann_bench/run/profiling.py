"""Profiles one case in a process of its own and stores what it found."""

import csv
from pathlib import Path
from typing import Any

from mann_bench.data.case import Case
from mann_bench.data.store import write_atomically
from mann_bench.measure.profile import Profile, StepPoint
from mann_bench.run.process import WorkerProcess


def profile_in_worker(case: Case, folder: Path, memory_bytes: int, seconds: float) -> Profile | dict[str, Any]:
    """Profile a case in a process of its own and write profile.json, steps.csv and phases.csv; else the status and reason of a failure."""
    folder.mkdir(parents=True, exist_ok=True)
    worker = WorkerProcess(case.threads)
    try:
        reply = worker.wait_until_started()
        if "status" not in reply:
            command = {"do": "profile", "case": case.model_dump(), "memory_bytes": memory_bytes, "folder": str(folder.resolve())}
            reply = worker.ask(command, seconds)
        if "status" in reply:
            return reply
    finally:
        worker.quit()
    profile = Profile(**reply["profile"])
    write_atomically(folder / "profile.json", profile.model_dump_json(indent=1))
    _write_csv(folder / "steps.csv", [{**point.model_dump(exclude={"held"}), **_held_columns(point)} for point in profile.points])
    _write_csv(folder / "phases.csv", [phase.model_dump() for phase in profile.phases])
    return profile


def _held_columns(point: StepPoint) -> dict[str, int]:
    return {f"{cause}_bytes": size_bytes for cause, size_bytes in point.held.items()}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
