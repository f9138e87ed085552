"""What a model does besides learning: it harms neither its own result nor the folder of the run, and nothing of it is left."""

import json
import os
import subprocess
import sys
import time

import pytest

OWN = """
import os, signal, subprocess, sys, threading, time
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()
        self.layer, self.calls = nn.Linear(input_size, output_size), 0
    def forward(self, x, state=None):
        self.calls += 1
        if self.calls == 2:
            with open(os.environ["CHILD"], "w") as file:
                file.write(str(subprocess.Popen(["sleep", "600"]).pid))
            threading.Thread(target=time.sleep, args=(600,)).start()
            sys.stdout.write("x" * 2**24)
            os.chdir("/")
            torch.set_num_threads(2)
            torch.set_default_dtype(torch.float64)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.perf_counter = time.monotonic = lambda: 0.0
            if os.fork() == 0:
                return self.layer(x), state
        x.mul_(1)
        return self.layer(x), state
"""


def test_whatever_a_model_leaves_or_changes_its_run_ends_as_it_should(tmp_path):
    (tmp_path / "own_conduct.py").write_text(OWN)
    child = tmp_path / "child"
    options = ["--sequences", "256", "--batch", "8", "--seeds", "1", "--levels", "1-2", "--evaluation-seconds", "20", "--out", "out"]
    command = [sys.executable, "-m", "mann_bench", "learn", "copy", "--models", "own_conduct:Model,lstm", *options]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CHILD": str(child)}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    records = {
        record["case"]["model"]: record for record in map(json.loads, (tmp_path / "out" / "learning.jsonl").read_text().splitlines())
    }
    assert {model: (record["status"], record["sequences"]) for model, record in records.items()} == {
        "own_conduct:Model": ("budget", 256),
        "lstm": ("budget", 256),
    }
    own = records["own_conduct:Model"]
    assert own["wall_s"] > 0
    assert own["evaluations"]
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 2
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(child.read_text()), 0)
