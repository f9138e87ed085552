"""Kill sweeps again and again, at random, and go on with them: nothing that finished is lost, repeated or changed, and nothing runs on.

python -m tests.endurance.kills KILLS [--seed N] [--jobs N] [--out FILE]        FILE: counts and faults as JSON, after every sweep
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from mann_bench.data.store import load_results
from tests.endurance.forking import Forker
from tests.endurance.killing import SIGNALS, TARGETS, Tally, Trial, in_threads

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
MODELS = (["lstm"], ["lstm"], ["lstm", "sam"])  # two are timed in turn
LONGEST_S = {"at once": 0.3, "start": 4.0, "record": 0.0, "after a record": 2.0, "after the last record": 0.05}
WAITS = ("at once", "start", "start", "start", "record", "after a record")


def wait(sweep: Trial, chance: random.Random) -> float | None:
    """Wait for some random moment or the end of the sweep; returns when its records grew last, if that was waited for."""
    how, grown_s = chance.choice(WAITS), None
    if "record" in how:
        grown_s = sweep.wait_for_growth()
        if how == "after a record" and sweep.stored.count(b"\n") == sweep.total:
            how = "after the last record"
    if sweep.driver.poll() is None:
        time.sleep(chance.uniform(0, LONGEST_S[how]))
    return grown_s


def trial(forker: Forker, chance: random.Random, tally: Tally) -> None:
    """One sweep, killed until it is complete or no more kills are wanted."""
    with tempfile.TemporaryDirectory() as name:
        folder, models = Path(name), chance.choice(MODELS)
        (folder / "kills.toml").write_text(SUITE.format(models=json.dumps(models)))
        command = ["run", "kills.toml"]
        sweep = Trial(forker, folder, command, "results.jsonl", 3 * len(models), lambda record: record["case_id"])
        at_workers = 0
        while not sweep.is_complete:
            driver, what = sweep.start(chance), "no kill"
            while not tally.is_done and driver.poll() is None:
                grown_s = wait(sweep, chance)
                number = chance.choice(SIGNALS)
                if (killed := sweep.kill(chance.choice(TARGETS), number, chance, grown_s)) is not None:
                    tally.add(number, *killed)
                    what = " ".join((number.name, *killed))
                    at_workers += killed[0] in ("worker", "warden")
                    if killed[0] in ("driver", "all"):
                        break
                sweep.check_records(what)
            driver.wait()
            sweep.check_ended(what)
            if what == "no kill" and not sweep.is_complete:
                sweep.fault(f"the sweep ended by itself with {sweep.kept.count(chr(10).encode())} of {sweep.total} cases")
                break
        statuses = check_results(sweep, at_workers)
        counts = {"sweeps": 1, "starts": sweep.starts, "new_interpreters": sweep.new_starts}
        tally.close(sweep.faults, **counts, cases_ok=statuses["ok"], cases_killed_twice=statuses["error"])


def check_results(sweep: Trial, at_workers: int) -> Counter[str]:
    """The results of a complete sweep can be read; a case failed only if its worker was killed, and killed again."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = load_results(sweep.out)
    failed = [result for result in results if result.status != "ok"]
    reasons = {f"killed by {number.name}" for number in signal.Signals}
    if 2 * len(failed) > at_workers or any(result.status != "error" or result.reason not in reasons for result in failed):
        sweep.fault(f"after {at_workers} kills of workers, cases ended as {[(result.status, result.reason) for result in failed]}")
    if left := sorted(path.name for path in sweep.out.iterdir() if path.name not in ("run.json", "results.jsonl")):
        sweep.fault(f"files are left: {left}")
    return Counter(result.status for result in results)


def run(kills: int, seed: int = 0, jobs: int = 1, file: Path | None = None) -> dict[str, Any]:
    """Make so many kills; return counts of what was done, and the faults found."""
    tally = Tally(kills, seed, file)
    in_threads(jobs, lambda forker, chance: trial(forker, chance, tally), tally)
    return tally.summary()


def main() -> None:
    """Run as a program; exit code 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    outcome = run(given.kills, given.seed, given.jobs, given.out)
    print(json.dumps(outcome, indent=1))
    sys.exit(bool(outcome["faults"]))


if __name__ == "__main__":
    main()
