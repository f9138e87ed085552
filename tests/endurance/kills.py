"""Kill sweeps again and again, at random, and go on with them: nothing that finished is lost, repeated or changed, and nothing runs on.

python -m tests.endurance.kills KILLS [--seed N] [--jobs N] [--out FILE]        FILE: counts and faults as JSON, after every sweep
"""

import json
import random
import re
import signal
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from mann_bench.data.store import load_results
from tests.endurance.forking import Forker
from tests.endurance.killing import Tally, Trial, in_threads, main

SUITE = """
name = "kills"
[fixed]
steps = 2
[[sweep]]
models = {models}
slots = ["8", "16", "32"]
[budget]
timing_seconds = 0.02
rounds = 1
case_seconds = 100_000
"""
KILLED = f"killed by ({'|'.join(number.name for number in signal.Signals)})"
MODELS = (["lstm"], ["lstm"], ["lstm", "sam"])  # two are timed in turn


def trial(forker: Forker, chance: random.Random, tally: Tally) -> None:
    """One sweep, killed until it is complete or no more kills are wanted."""
    with tempfile.TemporaryDirectory() as name:
        folder, models = Path(name), chance.choice(MODELS)
        (folder / "kills.toml").write_text(SUITE.format(models=json.dumps(models)))
        command = ["run", "kills.toml"]
        sweep = Trial(forker, folder, command, "results.jsonl", 3 * len(models), lambda record: record["case_id"])
        sweep.run(chance, tally)
        statuses = check_results(sweep)
        counts = {"sweeps": 1, "starts": sweep.starts, "new_interpreters": sweep.new_starts}
        tally.close(sweep.faults, **counts, cases_ok=statuses["ok"], cases_killed_twice=statuses["error"])


def check_results(sweep: Trial, lost: str = KILLED) -> Counter[str]:
    """The results of a complete sweep can be read; a case failed only for a reason that matches `lost`: killed twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = load_results(sweep.out)
    failed = [result for result in results if result.status != "ok"]
    expected = all(result.status == "error" and re.fullmatch(lost, str(result.reason)) for result in failed)
    if 2 * len(failed) > sweep.at_workers or not expected:
        sweep.fault(f"after {sweep.at_workers} kills of workers, cases ended as {[(result.status, result.reason) for result in failed]}")
    if left := sorted(path.name for path in sweep.out.iterdir() if path.name not in ("run.json", "results.jsonl")):
        sweep.fault(f"files are left: {left}")
    return Counter(result.status for result in results)


def run(kills: int, seed: int = 0, jobs: int = 1, file: Path | None = None) -> dict[str, Any]:
    """Make so many kills; return counts of what was done, and the faults found."""
    tally = Tally(kills, seed, file)
    in_threads(jobs, lambda forker, chance: trial(forker, chance, tally), tally)
    return tally.summary()


if __name__ == "__main__":
    main(__doc__, run)
