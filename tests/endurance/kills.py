"""Kill sweeps and training runs at random moments, and check that nothing that was finished is lost.

    python -m tests.endurance.kills --sweeps 1000 --training 100 --out docs/results/endurance/kills.json

A victim is started, and killed after a random time: its driver, one worker or all its processes at once, by a random signal. Then it is
started again, as `make bench` does. After each kill the bytes of finished records must be as they were, and no process may run on. In the
end every case has exactly one finished record, and training has given the same losses, bit for bit, as a run that nobody killed.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from mann_bench.data.store import write_atomically

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TARGETS = ("the driver", "one worker", "all processes")
USAGE = 2  # exit code of a command that was refused
FINISHED = ("ok", "budget")  # statuses that are final
KILLS_A_RUN = 10
MARK = "MANN_BENCH_ENDURANCE"  # environment variable by which the processes of a victim are found
LONGEST_WAIT_S = 8.0  # from a start to a kill
END_S = 120.0  # within which a driver ends: after a signal, or with all its cases
GONE_S = 10.0  # within which all other processes are gone after their driver
FAULTS = (
    "finished records altered",
    "cases lost or repeated",
    "drivers that did not end",
    "drivers that refused to go on",
    "processes left running",
    "curves that differ from an undisturbed run",
)

SWEEP = """
name = "victim"
[fixed]
steps = 4
hidden = 8
[[sweep]]
models = ["lstm"]
slots = ["4", "8", "16"]
[budget]
case_seconds = 60
timing_seconds = 0.05
"""
TRAINING = ["copy", "--models", "lstm", "--seeds", "1", "--hidden", "8", "--levels", "1-2", "--batch", "4", "--sequences", "16k"]
TRAINING += ["--past-goal", "--checkpoint-seconds", "0.5"]


class Victim:
    """A command of `mann-bench` that is killed and started again until it is done.

    Args:
        folder: an empty folder for it.
        arguments: without `--out` and `--resume`.
        records: name of the file of its records.
    """

    def __init__(self, folder: Path, arguments: list[str], records: str) -> None:
        self.folder, self.arguments = folder, arguments
        self.out = folder / "out"
        self.records = self.out / records
        self.mark = uuid.uuid4().hex

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, or go on with what an earlier start has left."""
        resume = ["--resume"] if (self.out / "run.json").is_file() else []
        command = [sys.executable, "-m", "mann_bench", *self.arguments, "--out", str(self.out), *resume]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(command, env={**os.environ, MARK: self.mark}, start_new_session=True, stdout=log, stderr=log)

    def processes(self) -> list[psutil.Process]:
        """Its processes that run."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # it has ended meanwhile, or is another user's
                continue
        return found

    def finished(self) -> bytes:
        """The records in its file; an unfinished last line is none."""
        content = self.records.read_bytes() if self.records.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def end_processes(self) -> bool:
        """Wait until none of its processes runs, or end them after `GONE_S`; return whether that was necessary."""
        deadline = time.monotonic() + GONE_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            process.kill()
        return bool(left)


def send_signal(victim: Victim, driver: int, rng: random.Random) -> str:
    """Send a random signal to a random target; return both in words."""
    number, target = rng.choice(SIGNALS), rng.choice(TARGETS)
    others = [process.pid for process in victim.processes() if process.pid != driver]
    if target == "one worker" and not others:
        target = "the driver"
    pids = {"the driver": [driver], "one worker": [rng.choice(others or [driver])], "all processes": [driver, *others]}[target]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return f"{number.name} to {target}"


def run_once(victim: Victim, rng: random.Random, counts: Counter[str], *, kill: bool) -> None:
    """Start a victim, kill it after a random time if it still runs, and check what it leaves. `counts` gains what was done and faults."""
    before = victim.finished()
    driver = victim.start()
    try:
        driver.wait(rng.uniform(0.0, LONGEST_WAIT_S) if kill else END_S)
    except subprocess.TimeoutExpired:
        if kill:
            counts["kills"] += 1
            counts["kills before the first record"] += not victim.finished()
            counts[send_signal(victim, driver.pid, rng)] += 1
    try:
        counts["drivers that refused to go on"] += driver.wait(END_S) == USAGE
    except subprocess.TimeoutExpired:
        counts["drivers that did not end"] += 1
        driver.kill()
        driver.wait()
    counts["processes left running"] += victim.end_processes()
    counts["finished records altered"] += not victim.finished().startswith(before)


def run_to_the_end(victim: Victim, kills: int, rng: random.Random, counts: Counter[str]) -> list[dict[str, Any]]:
    """Kill a victim at most `kills` times while it runs, let it end, and return its finished records."""
    last = counts["kills"] + kills
    undisturbed = 0
    while undisturbed < 3:  # once is enough unless a worker's death left a case to be measured again
        kill = counts["kills"] < last
        run_once(victim, rng, counts, kill=kill)
        undisturbed += not kill
        records = [json.loads(line) for line in victim.finished().splitlines()]
        plan = json.loads((victim.out / "run.json").read_text())["case_ids"] if (victim.out / "run.json").is_file() else []
        finished = [record for record in records if record["status"] in FINISHED]
        if plan and {record["case_id"] for record in finished} == set(plan):
            break
    counts["cases lost or repeated"] += sorted(record["case_id"] for record in finished) != sorted(plan)
    return finished


def sweeps(kills: int, rng: random.Random) -> Counter[str]:
    """Kill sweeps `kills` times."""
    counts: Counter[str] = Counter()
    while counts["kills"] < kills:
        with tempfile.TemporaryDirectory() as folder:
            suite = Path(folder) / "victim.toml"
            suite.write_text(SWEEP)
            victim = Victim(Path(folder), ["run", str(suite)], "results.jsonl")
            run_to_the_end(victim, min(KILLS_A_RUN, kills - counts["kills"]), rng, counts)
            counts["runs"] += 1
    return counts


def trainings(kills: int, rng: random.Random) -> Counter[str]:
    """Kill training runs `kills` times."""
    counts: Counter[str] = Counter()
    expected = None
    while counts["kills"] < kills or not expected:
        with tempfile.TemporaryDirectory() as folder:
            victim = Victim(Path(folder), ["learn", *TRAINING], "learning.jsonl")
            records = run_to_the_end(victim, min(KILLS_A_RUN, kills - counts["kills"]) if expected else 0, rng, counts)
            curves = [[(point["sequences"], point["loss"], point["level"]) for point in record["curve"]] for record in records]
            expected = expected or curves  # of the first run, which is not disturbed
            counts["curves that differ from an undisturbed run"] += curves != expected
            counts["runs"] += 1
    return counts


def main(arguments: list[str] | None = None) -> int:
    """Run the trials, write their counts as JSON, and return 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=1000, help="kills of sweeps")
    parser.add_argument("--training", type=int, default=100, help="kills of training runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="file for the counts")
    options = parser.parse_args(arguments)
    began, rng = time.monotonic(), random.Random(options.seed)
    counts = {"sweeps": sweeps(options.sweeps, rng), "training": trainings(options.training, rng)}
    text = json.dumps({"seed": options.seed, "seconds": round(time.monotonic() - began), **counts}, indent=1, sort_keys=True)
    write_atomically(options.out, text + "\n")
    print(text)
    return int(any(of[fault] for of in counts.values() for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
