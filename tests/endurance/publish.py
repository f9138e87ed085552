"""The figures of long trials: kept in `docs/results/reliability.json`, from which the table of `docs/reliability.md` is made.

python -m tests.endurance.publish add TRIAL COMMIT FILE...     adds what a trial of a commit has counted; TRIAL is one of `TRIALS`
python -m tests.endurance.publish write                        writes the tables into the page
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mann_bench.data.conditions import Environment
from mann_bench.machine.environment import fingerprint

ROOT = Path(__file__).resolve().parents[2]
FIGURES, PAGE = ROOT / "docs" / "results" / "reliability.json", ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- made by tests/endurance/publish.py -->\n", "<!-- end of what is made -->\n"
TRIALS = ("sweeps", "sweeps on Ray", "training", "configurations", "configurations under sanitizers")
KINDS = {  # of faults, by a part of their words
    "lost": "were announced",
    "changed": "earlier records have changed",
    "repeated": "a record is there twice",
    "left running": "run on",
    "curve": "differ",
    "checkpoint": "has lost or changed",
    "file left": "files are left",
}


def add(trial: str, commit: str, files: Sequence[Path]) -> None:
    """Add the sums of the figures of a trial, run in parts; of each fault the first sentence only."""
    figures: Any = {}
    for file in files:
        figures = total(figures, json.loads(file.read_text()))
    figures["faults"] = [fault.partition("; start ")[0] for fault in figures["faults"]]
    where = fingerprint()
    entry = {"trial": trial, "commit": commit, "date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(where), **figures}
    FIGURES.write_text(json.dumps([*load(), entry], indent=1) + "\n")


def total(one: Any, other: Any) -> Any:
    """Add up counts by name; lists one after the other. Seeds are no counts."""
    if isinstance(other, dict):
        names = [name for name in {**one, **other} if name != "seed"]
        return {name: total(one.get(name, type(other.get(name, 0))()), other.get(name, type(one.get(name, 0))())) for name in names}
    return one + other


def machine(where: Environment) -> str:
    """The machine in words."""
    return f"{where['cpu']}, {where['usable_threads']} threads, torch {where['torch']}"


def load() -> list[dict[str, Any]]:
    """The trials so far."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else []


def tables(trials: list[dict[str, Any]]) -> str:
    """The tables of the page."""
    kills = [trial for trial in trials if "kills" in trial]
    checks = [trial for trial in trials if "configurations" in trial]
    parts = []
    if kills:
        names = ["trial", "kills", "signals", "sent to", "when", "lost", "changed", "repeated", "left running", "other faults", "commit"]
        parts.append(table(names, map(kill_row, kills)))
    if checks:
        names = ["trial", "number", "alike", "ill-conditioned", "overflow", "different, failed or not exact", "commit"]
        parts.append(table(names, map(check_row, checks)))
    return "\n".join(parts)


def kill_row(trial: dict[str, Any]) -> list[Any]:
    """A row about kills."""
    by_kind = {kind: sum(words in fault for fault in trial["faults"]) for kind, words in KINDS.items()}
    shown = ("lost", "changed", "repeated", "left running")
    counts = [
        ", ".join(f"{name.removeprefix('SIG')} {n}" for name, n in trial[f"by_{by}"].items()) for by in ("signal", "target", "moment")
    ]
    other = len(trial["faults"]) - sum(by_kind[kind] for kind in shown)
    return [trial["trial"], trial["kills"], *counts, *(by_kind[kind] for kind in shown), other, measured(trial)]


def check_row(trial: dict[str, Any]) -> list[Any]:
    """A row about configurations."""
    verdicts = [trial["verdicts"].get(name, 0) for name in ("alike", "ill-conditioned", "overflow")]
    return [trial["trial"], trial["configurations"], *verdicts, len(trial["faults"]), measured(trial)]


def measured(trial: dict[str, Any]) -> str:
    """What was tried, when and where."""
    return f"{trial['commit'][:7]}, {trial['date']}, {trial['machine']}"


def table(names: list[str], rows: Iterable[list[Any]]) -> str:
    """A table in Markdown."""
    lines = [names, ["---"] * len(names), *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(text: str) -> str:
    """The page with the tables as the figures have them."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables(load())}\n{END}{after}"


def main() -> None:
    """Run as a program."""
    match sys.argv[1:]:
        case ["add", trial, commit, *files] if trial in TRIALS and files:
            add(trial, commit, [Path(file) for file in files])
        case ["write"]:
            PAGE.write_text(page(PAGE.read_text()))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
