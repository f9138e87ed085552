"""How long `make test` and `make regress` take: measured by `make minutes`, kept in `docs/results/minutes.json`, shown by `make numbers`.

Measure on a quiet machine, once all is installed and the kernels are built. What `make bench` and `make paper` take, their runs tell.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path

from mann_bench.machine.environment import fingerprint
from tests.published.results import RESULTS

FILE = RESULTS / "minutes.json"
TARGETS = ("test", "regress")


def call(target: str) -> None:
    """Make a target of the Makefile; SystemExit if it fails."""
    code = subprocess.run(["make", target], cwd=RESULTS.parents[1], check=False).returncode
    if code:
        raise SystemExit(f"make {target}: expected it to pass, got exit code {code}; its time is not stored")


def measure(targets: Sequence[str], file: Path, make: Callable[[str], None] = call, clock: Callable[[], float] = time.monotonic) -> None:
    """Time targets, and store each at once: minutes rounded up, as a reader wants to know how long to wait at most."""
    facts = fingerprint()
    machine: dict[str, object] = {"cpu": facts["cpu"], "threads": facts["usable_threads"]}
    for target in targets:
        began = clock()
        make(target)
        stored = json.loads(file.read_text()) if file.is_file() else {}
        of_here = stored.get("minutes", {}) if machine.items() <= stored.items() else {}
        content = {**machine, "minutes": {**of_here, target: ceil((clock() - began) / 60)}}
        file.write_text(json.dumps(content, indent=1) + "\n")


def sentence(measured: Mapping[str, object] | None) -> str:
    """What the README says; without a measurement a rounded estimate for two cores."""
    minutes = {} if measured is None else measured["minutes"]
    assert isinstance(minutes, dict)
    if measured is None or not {*TARGETS} <= {*minutes}:
        return "`make test` and `make regress` take up to a quarter of an hour each"
    test, regress, machine = minutes["test"], minutes["regress"], f"{measured['threads']} threads of {measured['cpu']}"
    return f"`make test` takes {test} minutes and `make regress` {regress} ({machine})"


def target_minutes() -> str:
    """The sentence by the stored file."""
    return sentence(json.loads(FILE.read_text()) if FILE.is_file() else None)


if __name__ == "__main__":
    measure(sys.argv[1:] or TARGETS, FILE)
    print(f"{FILE}: written; call make numbers", file=sys.stderr)
