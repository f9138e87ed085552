"""What trials of kills share: a command whose processes are known by a mark, signals to them, and what must hold afterwards."""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from mann_bench.data.files import write_atomically
from tests.endurance.forking import Forked, Forker, python_path

ROOT = Path(__file__).resolve().parents[2]
MARK = "MANN_BENCH_TRIAL"
NEW = 0.1  # share of the starts in an interpreter of their own, whose imports may be hit too; the others are forked
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TARGETS = ("driver", "worker", "warden", "all")
POLL_S, POLLS = 0.05, 600  # for everything to be gone; polls and not seconds, so that a machine that pauses all does not count
LONGEST_S = {"at once": 0.3, "start": 4.0, "record": 0.0, "after a record": 2.0, "after the last record": 0.05}  # that are waited
APPENDING_S = 0.005  # a kill this soon after the records grew counts as one while they are appended


# A line about a record, as "[2/3] lstm ...". Lines about what is under way end with the time left; those of Ray's log begin with dates.
ANNOUNCED = re.compile(rb"\[[1-9]\d*/\d+\] (?!.* left$)")
Driver = subprocess.Popen[bytes] | Forked


class Tally:
    """Counts kills over all threads of a trial, and writes what is known so far to a file."""

    def __init__(self, kills: int, seed: int, file: Path | None) -> None:
        self.wanted, self.seed, self.file = kills, seed, file
        self.by: dict[str, Counter[str]] = {"signal": Counter(), "target": Counter(), "moment": Counter()}
        self.other: Counter[str] = Counter()
        self.faults: list[str] = []
        self._lock = threading.Lock()

    @property
    def kills(self) -> int:
        """Kills so far."""
        return self.by["signal"].total()

    @property
    def is_done(self) -> bool:
        """Whether no more kills are wanted."""
        return self.kills >= self.wanted

    def add(self, number: signal.Signals, target: str, moment: str) -> None:
        """Count a kill."""
        with self._lock:
            self.by["signal"][number.name] += 1
            self.by["target"][target] += 1
            self.by["moment"][moment] += 1

    def close(self, faults: list[str], **counts: int) -> None:
        """Count a folder that is complete, and write the file."""
        with self._lock:
            self.faults += faults
            self.other.update(counts)
            if self.file:
                write_atomically(self.file, json.dumps(self.summary(), indent=1))

    def summary(self) -> dict[str, Any]:
        """All counts, and the faults."""
        counted = {f"by_{name}": dict(sorted(counts.items())) for name, counts in self.by.items()}
        return {"seed": self.seed, "kills": self.kills, **counted, **self.other, "faults": self.faults}


class Trial:
    """A command with a folder of results, which is killed and started again.

    Args:
        command: arguments of `mann-bench`.
        records: name of the file of records.
        total: records of a run that is complete.
        identity: what must differ between two records.

    Attributes:
        kept: the records that stood at the last check, which must stand for ever.
        at_workers: kills of workers and wardens so far.
        faults: what is wrong.
    """

    waits: tuple[str, ...] = ("at once", "start", "start", "start", "record", "after a record")
    signals: tuple[signal.Signals, ...] = SIGNALS
    after_end: Callable[[], None] = staticmethod(lambda: None)  # a further check of what stands after each end

    def __init__(
        self, forker: Forker, folder: Path, command: list[str], records: str, total: int, identity: Callable[[dict[str, Any]], str]
    ) -> None:
        self.forker, self.out = forker, folder / "run"
        self.command, self.records, self.total, self.identity = [*command, "--out", str(self.out)], self.out / records, total, identity
        self.output = folder / "output"
        self.mark = uuid.uuid4().hex
        self.kept = b""
        self.how_started = "not at all"
        self.starts = self.new_starts = self.at_workers = 0
        self.faults: list[str] = []

    def run(self, chance: random.Random, tally: Tally) -> None:
        """Start the command and kill it until it is complete; without kills once the tally is done."""
        while not self.is_complete:
            driver, what = self.start(chance), "no kill"
            while not tally.is_done and driver.poll() is None:
                grown_s = self.wait(chance.choice(self.waits), chance)
                number = chance.choice(self.signals)
                if (killed := self.kill(chance.choice(TARGETS), number, chance, grown_s)) is not None:
                    tally.add(number, *killed)
                    what = " ".join((number.name, *killed))
                    self.at_workers += killed[0] in ("worker", "warden")
                    if killed[0] in ("driver", "all"):
                        self.wait_for_end(what)
                        break
                self.check_records(what)
            driver.wait()
            self.check_ended(what)
            self.after_end()
            if what == "no kill" and not self.is_complete:
                self.fault(f"it ended by itself with {self.kept.count(chr(10).encode())} of {self.total} records")
                break

    def wait_for_end(self, what: str) -> None:
        """Wait for the end of a driver that was sent a signal: at most the record in hand may still be written."""
        before = self.stored.count(b"\n")
        self.driver.wait()
        if self.stored.count(b"\n") > before + 1:
            self.fault(f"{what}: it went on")

    def wait(self, how: str, chance: random.Random) -> float | None:
        """Wait for some random moment or the end of the command; returns when the records grew last, if that was waited for."""
        grown_s = self.wait_for_growth() if "record" in how else None
        if how == "after a record" and self.stored.count(b"\n") == self.total:
            how = "after the last record"
        if self.driver.poll() is None:
            time.sleep(chance.uniform(0, LONGEST_S[how]))
        return grown_s

    def start(self, chance: random.Random) -> "Driver":
        """Start the command, or go on with it."""
        arguments = [*self.command, *(["--resume"] if (self.out / "run.json").exists() else [])]
        environment = {"PYTHONPATH": python_path(ROOT), MARK: self.mark}
        self.starts += 1
        self._records_before = self.stored.count(b"\n")
        is_new = chance.random() < NEW
        self.how_started = "a new interpreter" if is_new else "forked"
        if not is_new:
            self.driver: Driver = self.forker.start(arguments, self.out.parent, self.output, environment)
            return self.driver
        self.new_starts += 1
        with self.output.open("wb") as output:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "mann_bench", *arguments],
                env={**os.environ, **environment},
                cwd=self.out.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self.driver

    @property
    def stored(self) -> bytes:
        """The records so far."""
        return self.records.read_bytes() if self.records.exists() else b""

    @property
    def size(self) -> int:
        """Bytes of the records so far."""
        try:
            return self.records.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def is_complete(self) -> bool:
        """Whether every record is there."""
        return self.kept.count(b"\n") >= self.total

    def processes(self) -> list[psutil.Process]:
        """Its processes that are alive."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.pid == self.driver.pid or process.environ().get(MARK) == self.mark
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def of_kind(self, target: str) -> list[psutil.Process]:
        """The processes that a signal to `target` goes to: of several workers or wardens, all."""
        kinds: dict[str, list[psutil.Process]] = {name: [] for name in TARGETS}
        driver = self.driver.pid
        for process in self.processes():
            kinds["all"].append(process)
            try:
                parent, own = process.parent(), process.cmdline()
                is_warden = process.ppid() == driver and any(word.endswith("warden.py") for word in own)
                is_worker = parent is not None and parent.ppid() == driver and any(word.endswith("warden.py") for word in parent.cmdline())
            except psutil.Error:
                continue
            kind = "driver" if process.pid == driver else "warden" if is_warden else "worker" if is_worker else None
            if kind:
                kinds[kind].append(process)
        return kinds[target]

    def kill(self, target: str, number: signal.Signals, chance: random.Random, grown_s: float | None) -> tuple[str, str] | None:
        """Send a signal to the driver, one of the workers or wardens, or to all as a scheduler does.

        Args:
            target: where there is none of them, the driver.
            grown_s: when the records grew last, by `time.monotonic`.

        Returns:
            The target and the moment, as they were; None if nothing was sent: the driver has ended.
        """
        if self.driver.poll() is not None:
            return None
        found = self.of_kind(target) if target != "driver" else []
        if not found:
            target, found = "driver", [psutil.Process(self.driver.pid)]
        moment, sent = self.moment(grown_s), 0
        for process in found if target == "all" else [chance.choice(found)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
                sent += 1
        return (target, moment) if sent else None

    def moment(self, grown_s: float | None) -> str:
        """What the records are like now."""
        if grown_s is not None and time.monotonic() - grown_s < APPENDING_S:
            return "while appending"
        if not (self.out / "run.json").exists():
            return "before run.json"
        count = self.stored.count(b"\n")
        return "before the first record" if count == 0 else "after the last record" if count >= self.total else "between records"

    def wait_for_growth(self) -> float | None:
        """Wait until a record is added; when that was, or None if the command ended first."""
        size = self.size
        while self.driver.poll() is None:
            if self.size > size:
                return time.monotonic()
            time.sleep(0.002)
        return None

    def check_records(self, what: str) -> None:
        """What was stored is as it was, and no record is there twice."""
        stored = self.stored
        if not stored.startswith(self.kept):
            self.fault(f"{what}: earlier records have changed")
        self.kept = stored[: stored.rfind(b"\n") + 1]
        ids = [self.identity(json.loads(line)) for line in self.kept.splitlines()]
        if len(ids) != len(set(ids)):
            self.fault(f"{what}: a record is there twice")

    def check_ended(self, what: str) -> None:
        """After the command has ended: as `check_records`, every record that was announced is there, and nothing runs any more."""
        polls = 0
        while (alive := self.processes()) and polls < POLLS:
            polls += all(process.is_running() and process.status() != psutil.STATUS_STOPPED for process in alive)
            time.sleep(POLL_S)
        if alive:
            self.fault(f"{what}: {len(alive)} processes run on")
            for process in alive:
                process.kill()
        self.check_records(what)
        announced = sum(ANNOUNCED.match(line) is not None for line in self.output.read_bytes().splitlines())
        if announced > (added := self.kept.count(b"\n") - self._records_before):
            self.fault(f"{what}: {announced} records were announced, {added} are there")

    def fault(self, text: str) -> None:
        """Note what is wrong, with the end of what the command has printed."""
        printed = self.output.read_text(errors="replace")[-1500:] if self.output.exists() else ""
        self.faults.append(f"{text}; start {self.starts} ({self.how_started}); it printed: {printed}")


def in_threads(jobs: int, trial: Callable[[Forker, random.Random], None], tally: Tally) -> None:
    """Run trials in so many threads until the tally is done; an exception of one ends all and is a fault."""

    for number in (signal.SIGHUP, signal.SIGINT):  # a shell may have us ignore them (nohup, &), which processes inherit
        signal.signal(number, signal.SIG_DFL)

    def work(number: int) -> None:
        chance = random.Random(f"{tally.seed} {number}")
        try:
            with Forker(ROOT) as forker:
                while not tally.is_done:
                    trial(forker, chance)
        except Exception as error:
            tally.wanted = 0
            tally.close([f"{type(error).__name__}: {error}"])
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(description: str, run: Callable[[int, int, int, Path | None], dict[str, Any]]) -> None:
    """Run a trial as a program: KILLS [--seed N] [--jobs N] [--out FILE]; exit code 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    outcome = run(given.kills, given.seed, given.jobs, given.out)
    print(json.dumps(outcome, indent=1))
    sys.exit(bool(outcome["faults"]))
