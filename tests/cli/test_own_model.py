"""A user's model, from a single file and from an installed package: run, report and compare work without a change to mann-bench."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mann_bench.reports.compare.comparison import compare_runs
from mann_bench.reports.compare.limits import parse_limits, violations
from mann_bench.reports.pages import write_report

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
name = "mine"
[fixed]
steps = 4
[[sweep]]
models = ["lstm"]
slots = ["8", "512"]
[budget]
timing_seconds = 0.1
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A folder outside the repository with the guide's file and an installed package that has an entry point."""
    guide = (ROOT / "docs" / "own-model.md").read_text()
    code = guide.split("```python\n")[1].split("```")[0]
    (tmp_path / "my_memory.py").write_text(code)
    (tmp_path / "mine.toml").write_text(SUITE)
    installed = tmp_path / "site"
    metadata = installed / "outside_memory-1.0.dist-info"
    metadata.mkdir(parents=True)
    (installed / "outside_memory.py").write_text(code.replace("MyMemory", "Outside"))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-memory\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mann_bench.models]\noutside = outside_memory:Outside\n")
    return tmp_path


def command(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder / "site")])}
    line = [sys.executable, "-m", "mann_bench", *arguments]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("model", [pytest.param("outside", marks=pytest.mark.slow), "my_memory:MyMemory"])
def test_profile(call, elsewhere, model, monkeypatch):
    monkeypatch.chdir(elsewhere)
    monkeypatch.syspath_prepend(elsewhere / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(elsewhere / "site")]))
    done = call("profile", model, "--slots", "64", "--steps", "4", "--memory", "1G", "--out", "page")
    assert done.returncode == 0, done.stderr
    assert list((elsewhere / "page").glob("*.html"))


def test_run_report_and_compare(elsewhere):
    """The run is a process, as a user starts it; commands that read stored results are called here."""
    options = ["--models", "outside", "--model", "my_memory:MyMemory", "--out", "runs/mine", "--json"]
    assert json.loads(command(elsewhere, "run", "mine.toml", *options))["statuses"] == {"ok": 4}
    run = elsewhere / "runs" / "mine"
    page = write_report([run], run / "report").read_text()
    rows = list(csv.DictReader((run / "report" / "results.csv").read_text().splitlines()))
    assert {row["curve"] for row in rows} == {"outside", "my_memory:MyMemory"}
    assert all(row["case_id"] in page for row in rows)
    comparison = compare_runs(run, run)
    assert len(comparison.cases) == 4
    assert violations(comparison.cases, parse_limits(["slower:5%", "larger:0%"])) == []
