"""Two states of the code side by side, from git worktrees: a planted slowdown is found, nothing is left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mann_bench.cli.stopping import Stopped
from mann_bench.data.errors import UsageError
from mann_bench.run import sides
from mann_bench.run.sides import checked_out, refuse_what_cannot_be_compared
from tests.support.results import make_result

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
name = "tiny"
[[sweep]]
models = ["lstm"]
slots = ["4"]
steps = 4
[budget]
timing_seconds = 0.4
"""


def git(repository, *arguments):
    author = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")
    return subprocess.run(["git", *author, *arguments], cwd=repository, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    """Two commits of this project: as it is, and with an LSTM that sleeps."""
    path = tmp_path / "repository"
    path.mkdir()
    for folder in ("models", "kernels", "suites", "reports"):
        shutil.copytree(ROOT / folder, path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "mann_bench", path / "mann_bench", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    git(path, "init", "--quiet")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "--message", "as it is")
    lstm = path / "models" / "lstm.py"
    text = lstm.read_text()
    assert text.count("def forward(") == 1
    signature = next(line for line in text.splitlines() if "def forward(" in line)
    lstm.write_text(text.replace(signature, f"{signature}\n        __import__('time').sleep(0.05)"))
    git(path, "commit", "--quiet", "--all", "--message", "slow")
    (path / "tiny.toml").write_text(SUITE)
    return path


@pytest.mark.slow  # tests/cli/test_guard.py does the same for a repository of the user's
def test_planted_slowdown_between_two_commits(repository):
    arguments = [
        "compare",
        "HEAD~1",
        "HEAD",
        "--suite",
        "tiny.toml",
        "--processes",
        "1",
        "--fail-on",
        "slower:50%",
        "--out",
        "out",
        "--json",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "mann_bench", *arguments]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "failed: lstm N=4 train" in done.stderr
    case = json.loads(done.stdout)["cases"][0]
    assert case["verdict"] == "SLOWER"
    assert case["step_ms"][1] > 50 / 4
    heads = [git(repository, "rev-parse", ref).strip() for ref in ("HEAD~1", "HEAD")]
    commits = [json.loads(path.read_text())["environment"]["git"]["commit"] for path in sorted((repository / "out").glob("*/run.json"))]
    assert sorted(commits) == sorted(heads)
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_name_that_is_not_a_checkout_is_refused(repository, monkeypatch):
    monkeypatch.chdir(repository)
    with checked_out(".") as here:
        assert here.code.checkout == repository
        assert here.folder_name.startswith("working-tree-")
    for name in ("no-such-ref", "--help"):
        with pytest.raises(UsageError, match=f"expected a git ref .* got '{name}' .*fatal: Needed a single revision"), checked_out(name):
            pass
    refusals = {
        ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1"): r"dubious ownership.*safe\.directory",
        ("PATH", ""): r"git cannot be run .*install it",
    }
    for variable, words in refusals.items():
        with monkeypatch.context() as patch:
            patch.setenv(*variable)
            with pytest.raises(UsageError, match=words), checked_out("HEAD"):
                pass
    git(repository, "rm", "-r", "--quiet", "mann_bench")
    git(repository, "commit", "--quiet", "--message", "gone")
    with checked_out("HEAD") as head, checked_out("HEAD~1") as before:
        with pytest.raises(UsageError, match=r"expected mann_bench/worker.py at 'HEAD' or a model of your own, got neither; .* --model"):
            refuse_what_cannot_be_compared((head, head), ([make_result("sam").case],) * 2)
        with pytest.raises(UsageError, match=r"two states of one repository, got 'HEAD~1', a mann-bench, and 'HEAD', which has no"):
            refuse_what_cannot_be_compared((before, head), ([make_result("my:M").case],) * 2)


@pytest.mark.parametrize("moment", ["while git makes it", "inside"])
def test_a_signal_leaves_no_worktree(repository, monkeypatch, moment):
    monkeypatch.chdir(repository)
    run_git, paths = sides.run_git, []

    def interrupted(where, *arguments):
        done = run_git(where, *arguments)
        if arguments[:2] == ("worktree", "add"):
            paths.append(Path(arguments[-2]))
            if moment != "inside":
                raise Stopped(signal.SIGTERM)
        return done

    def work():
        with checked_out("HEAD"):
            raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(sides, "run_git", interrupted)
    with pytest.raises(Stopped):
        work()
    assert not paths[0].exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
