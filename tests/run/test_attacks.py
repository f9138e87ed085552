"""Models that do more than compute, in one run with an ordinary one: each is reported or harmless, and no process or file is left."""

import os
import textwrap

import psutil
import pytest

from mann_bench.data.store import RunFolder
from mann_bench.data.suite import parse_suite
from mann_bench.run.runner import run_suite

MODELS = """
    import os, signal, subprocess, threading, time, torch
    from torch import nn

    class Honest(nn.Module):
        def __init__(self, input_size, output_size):
            super().__init__()
            self.layer = nn.Linear(input_size, output_size)
            self.kept, self.passes = [], 0
        def forward(self, x, state=None):
            self.passes += 1
            return self.layer(self.attack(x)), state
        def attack(self, x):
            return x

    class Remembers(Honest):
        kept_by_input = {}
        def forward(self, x, state=None):
            if id(x) not in self.kept_by_input:
                self.kept_by_input[id(x)] = self.layer(x).detach()
            return self.kept_by_input[id(x)] + 0 * self.layer.bias, state

    class Scribbles(Honest):
        def attack(self, x):
            return x.data.mul_(0.5).clone()

    class NoNumber(Honest):
        def attack(self, x):
            return x * float("nan")

    class Grows(Honest):
        def attack(self, x):
            self.kept.append(torch.ones(2**18))
            return x

    class Settles(Honest):
        def attack(self, x):
            time.perf_counter = time.monotonic = lambda: 0.0
            torch.set_num_threads(8)
            os.chdir("/")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            return x

    class Lingers(Honest):
        def attack(self, x):
            if not self.kept:
                self.kept.append(threading.Thread(target=self.work, daemon=True))
                self.kept[0].start()
                child = subprocess.Popen(["sleep", "600"], start_new_session=True)
                with open("left.txt", "w") as file:
                    file.write(str(child.pid))
            return x
        def work(self):
            while True:
                sum(range(1000))

    class Prints(Honest):
        def attack(self, x):
            for _ in range(100 if self.passes == 1 else 0):
                os.write(1, b"x" * 2**20)
            return x

    class Forks(Honest):
        def attack(self, x):
            if self.passes == 2:
                os.fork()
            return x

    class Shouts(Honest):
        def attack(self, x):
            raise RuntimeError("\\ud800" + "x" * 5 * 10**7)

    class Closes(Honest):
        def attack(self, x):
            os.closerange(3, 256)
            return x

    class Asks(Honest):
        def attack(self, x):
            return x * float(input("learning rate? "))
"""

NAMES = [line.split()[1].split("(")[0] for line in MODELS.splitlines() if line.strip().startswith("class ")]
SUITE = """
name = "attacks"
[fixed]
steps = 3
[[sweep]]
models = [MODELS]
slots = ["8"]
[budget]
case_seconds = 100
timing_seconds = 0.2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attacks")


@pytest.fixture(scope="module")
def results(folder):
    (folder / "attacks.py").write_text(textwrap.dedent(MODELS))
    suite = parse_suite(SUITE.replace("MODELS", ", ".join(f'"attacks:{name}"' for name in NAMES)), "attacks.toml")
    before = os.getcwd()
    os.chdir(folder)
    try:
        run = RunFolder(folder / "run", {"case_ids": [], "suite": "attacks"}, resume=False)
        try:
            return {result.case.model.partition(":")[2]: result for result in run_suite(suite, run)}
        finally:
            run.close()
    finally:
        os.chdir(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        ("Honest", []),
        ("Remembers", ["the model's output is the same for other inputs"]),
        ("Scribbles", ["the model writes into its inputs"]),
        ("NoNumber", ["the model's output is not finite"]),
        ("Prints", []),
        ("Forks", []),
        ("Grows", []),
        ("Lingers", ["busy after a pass has returned", "threads of the model live on", "processes of the model live on"]),
        (
            "Settles",
            [
                "torch's number of threads from 1 to 8",
                "the working folder",
                "the handler of SIGTERM",
                "the handler of SIGINT",
                "time.perf_counter",
                "time.monotonic",
            ],
        ),
    ],
)
def test_measured_misbehaviour_is_a_warning(results, name, sentences):
    result = results[name]
    assert result.status == "ok", result.reason
    assert len(result.warnings) == len(sentences)
    for sentence, found in zip(sentences, result.warnings, strict=True):
        assert sentence in found
    assert result.time.pass_ms.min > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Shouts", "RuntimeError: ?xxx"),
        ("Closes", "exited with code 1: OSError: [Errno 9] Bad file descriptor"),
        ("Asks", "EOFError: EOF when reading a line"),
    ],
)
def test_a_failure_is_reported_in_one_line(results, name, reason):
    result = results[name]
    assert result.status == "error"
    assert result.reason.startswith(reason)
    assert len(result.reason) <= 500
    assert "Traceback" in result.output or name == "Shouts"
    assert len(result.to_line()) < 20_000


@pytest.mark.slow
def test_a_model_that_grows_with_every_pass_is_reported_by_its_memory(results):
    assert results["Grows"].memory.leaked_bytes >= 2**20


@pytest.mark.slow
def test_nothing_is_left(results, folder):
    pid = int((folder / "left.txt").read_text())
    assert not psutil.pid_exists(pid)
    assert not [child for child in psutil.Process().children(recursive=True) if "mann_bench" in " ".join(child.cmdline())]
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 10**6
