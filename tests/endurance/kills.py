"""Kill a sweep again and again, at random, and go on with it: nothing that finished is lost, repeated or changed, and nothing runs on.

python tests/endurance/kills.py KILLS [SEED]        prints what was done and found, as JSON; exits with 1 if something is wrong
"""

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

ROOT = Path(__file__).resolve().parents[2]
CASES = 6
SUITE = f"""
name = "kills"
[fixed]
steps = 2
[[sweep]]
models = ["lstm"]
slots = {[str(2**number) for number in range(2, 2 + CASES)]}
[budget]
timing_seconds = 0.05
rounds = 1
"""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TARGETS = ("driver", "worker", "all")
MOMENTS = ("at once", "before a record", "at a record")
ENDS_S = 20.0  # for everything to be gone


class Sweep:
    """One sweep in a folder of its own. Its processes are known by a variable in their environment."""

    def __init__(self, folder: Path) -> None:
        self.out, self.suite = folder / "run", folder / "kills.toml"
        self.suite.write_text(SUITE)
        self.mark = uuid.uuid4().hex
        self.kept = b""
        self.faults: list[str] = []

    @property
    def stored(self) -> bytes:
        """The results so far."""
        path = self.out / "results.jsonl"
        return path.read_bytes() if path.exists() else b""

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it, or go on with it."""
        command = [sys.executable, "-m", "mann_bench", "run", str(self.suite), "--out", str(self.out)]
        resume = ["--resume"] if (self.out / "run.json").exists() else []
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MANN_BENCH_KILLS": self.mark}
        return subprocess.Popen(
            [*command, *resume], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def processes(self) -> list[psutil.Process]:
        """Its processes that are alive."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("MANN_BENCH_KILLS") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def check(self, what: str) -> None:
        """Nothing may run any more, and what was stored is as it was."""
        until = time.monotonic() + ENDS_S
        while (alive := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        if alive:
            self.faults.append(f"{what}: {len(alive)} processes run on")
        stored = self.stored
        if not stored.startswith(self.kept):
            self.faults.append(f"{what}: earlier results have changed")
        self.kept = stored[: stored.rfind(b"\n") + 1]
        ids = [json.loads(line)["case_id"] for line in self.kept.splitlines()]
        if len(ids) != len(set(ids)):
            self.faults.append(f"{what}: a case is there twice")

    @property
    def is_complete(self) -> bool:
        """Whether every case is there."""
        return self.kept.count(b"\n") == CASES


def wait_for_moment(sweep: Sweep, driver: "subprocess.Popen[bytes]", moment: str, chance: random.Random) -> None:
    """Wait for the moment of a kill, or for the end of the sweep."""
    if moment == "at once":
        time.sleep(chance.uniform(0, 4))
        return
    records, size = chance.randrange(1, 3), len(sweep.stored)
    while records and driver.poll() is None:
        if (now := len(sweep.stored)) != size:
            size, records = now, records - 1
        time.sleep(0.0005)
    if moment == "before a record":
        time.sleep(chance.uniform(0, 1))


def kill(sweep: Sweep, driver: "subprocess.Popen[bytes]", target: str, number: signal.Signals, chance: random.Random) -> None:
    """Send a signal to the driver, to one of the processes below it, or to all as a scheduler does."""
    if target == "driver":
        driver.send_signal(number)
        return
    processes = sweep.processes()
    others = [process for process in processes if process.pid != driver.pid]
    for process in processes if target == "all" else others and [chance.choice(others)]:
        try:
            process.send_signal(number)
        except psutil.Error:
            continue


def run(kills: int, seed: int) -> dict[str, Any]:
    """Make so many kills; return counts of what was done, and the faults found."""
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    faults: list[str] = []
    while sum(done.values()) < kills:
        with tempfile.TemporaryDirectory() as folder:
            sweep = Sweep(Path(folder))
            while not sweep.is_complete:
                driver = sweep.start()
                what = "no kill"
                if sum(done.values()) < kills:
                    target, number, moment = chance.choice(TARGETS), chance.choice(SIGNALS), chance.choice(MOMENTS)
                    wait_for_moment(sweep, driver, moment, chance)
                    kill(sweep, driver, target, number, chance)
                    what = f"{number.name} to {target} {moment}"
                    done[what] += 1
                driver.wait(timeout=300)
                sweep.check(what)
                if what == "no kill" and not sweep.is_complete:
                    sweep.faults.append(f"the sweep ended with {sweep.kept.count(chr(10).encode())} of {CASES} cases")
                    break
            statuses = Counter(json.loads(line)["status"] for line in sweep.kept.splitlines())
            if set(statuses) - {"ok"}:
                sweep.faults.append(f"cases ended as {dict(statuses)}")
            faults += sweep.faults
    return {"seed": seed, "kills": dict(done), "faults": faults}


if __name__ == "__main__":
    outcome = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(json.dumps(outcome, indent=1))
    sys.exit(bool(outcome["faults"]))
