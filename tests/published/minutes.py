"""How long `make test` and `make regress` take: measured by `make minutes`, kept in `docs/results/minutes.json`, shown by `make numbers`.

Measure on a quiet machine, once all is installed and the kernels are built. What `make bench` and `make paper` take, their runs tell.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from math import ceil

from mann_bench.machine.environment import fingerprint
from tests.published.results import RESULTS

FILE = RESULTS / "minutes.json"
TARGETS = ("test", "regress")


def call(target: str) -> None:
    """Make a target of the Makefile; SystemExit if it fails."""
    code = subprocess.run(["make", target], cwd=RESULTS.parents[1], check=False).returncode
    if code:
        raise SystemExit(f"make {target}: expected it to pass, got exit code {code}; nothing is stored")


def measure(make: Callable[[str], None] = call, clock: Callable[[], float] = time.monotonic) -> dict[str, object]:
    """Time each target; returns the content of the file, in minutes rounded up, as a reader wants to know how long to wait at most."""
    minutes = {}
    for target in TARGETS:
        began = clock()
        make(target)
        minutes[target] = ceil((clock() - began) / 60)
    facts = fingerprint()
    return {"cpu": facts["cpu"], "threads": facts["usable_threads"], "minutes": minutes}


def sentence(measured: Mapping[str, object] | None) -> str:
    """What the README says; without a measurement a rounded estimate for two cores."""
    if measured is None:
        return "`make test` and `make regress` take up to a quarter of an hour each"
    minutes = measured["minutes"]
    assert isinstance(minutes, dict)
    test, regress, machine = minutes["test"], minutes["regress"], f"{measured['threads']} threads of {measured['cpu']}"
    return f"`make test` takes {test} minutes and `make regress` {regress} ({machine})"


def target_minutes() -> str:
    """The sentence by the stored file."""
    return sentence(json.loads(FILE.read_text()) if FILE.is_file() else None)


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure(), indent=1) + "\n")
    print(f"{FILE}: written; call make numbers", file=sys.stderr)
