"""Snippets of the README and the guides: Python runs, quick commands run, all other commands are parsed."""

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mann_bench.cli.app import app
from mann_bench.learn.configurations import plan_study
from mann_bench.learn.study import parse_study
from tests.support.results import make_result

ROOT = Path(__file__).resolve().parent.parent
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = ("--help", "list models", "list studies", "plan scaling", "report runs/mine", "compare runs/a runs/b")
NOT_RUN = {  # first words of the commands of README.md and docs/own-model.md that are only parsed
    "run ": "measures for minutes; tests/cli/test_own_model.py runs smaller sweeps",
    "learn ": "trains for minutes; tests/learn runs smaller ones, as tests/learn/test_study_session.py",
    "compare ": "runs two checkouts, or needs a model of the reader's own; tests/run/test_checkouts.py, tests/cli/test_guard.py",
    "claims ": "needs a run of suite paper, under an hour; tests/reports/test_claims.py",
    "profile ": "builds a large memory; tests/cli/test_own_model.py profiles a small one",
    "largest ": "fills the memory; tests/run/test_largest.py",
    "doctor --selftest": "times the machine; tests/doctor/test_selftest.py",
    "report ": "needs runs of several machines, or of a study; tests/reports",
}


def blocks(guide: Path, language: str) -> list[str]:
    """Fenced blocks of a language; shell blocks have none."""
    return [code for tag, code in re.findall(r"^```(\w*)\n(.*?)^```$", guide.read_text(), re.MULTILINE | re.DOTALL) if tag == language]


def commands(guide: Path) -> list[str]:
    """Lines of the shell blocks, without comments."""
    lines = [line.split(" #")[0].strip() for code in blocks(guide, "") for line in code.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def calls(guide: Path) -> list[str]:
    """What follows `mann-bench` in them."""
    return [line.removeprefix("mann-bench ") for line in commands(guide) if line.startswith("mann-bench ")]


@pytest.mark.parametrize("number", range(len(blocks(GUIDES[0], "python"))))
def test_python_of_the_readme(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks(GUIDES[0], "python")[number], "README.md", "exec"), {"__name__": "readme"})


TRAINING = blocks(ROOT / "docs" / "training.md", "python")


@pytest.mark.parametrize("code", TRAINING, ids=[f"snippet {number}" for number in range(len(TRAINING))])
def test_python_of_the_guide_to_training(code, tmp_path, monkeypatch):
    """One that starts processes runs as a program, as these import it."""
    if "__main__" in code:
        (tmp_path / "program.py").write_text(code)
        done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ntm has no reads: left out", UserWarning)
        exec(compile(code, "training.md", "exec"), {"__name__": "training"})


def test_the_study_of_the_guide_can_be_planned():
    (text,) = blocks(ROOT / "docs" / "learning.md", "toml")
    plan = plan_study(parse_study(text, "guide"), "guide", None, {"device": "cpu", "threads": 1, "memory_bytes": 2**30})
    assert [(configuration.name, len(configuration.candidates)) for configuration in plan.record.configurations] == [
        *(("sam adam", 3), ("dam adam", 3)),
        *(("sam rmsprop", 3), ("dam rmsprop", 3)),
    ]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_python_compiles(guide):
    for code in blocks(guide, "python"):
        compile(code, guide.name, "exec")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch itself, when it loads its compiler
@pytest.mark.parametrize("call", RUN)
def test_quick_commands(call, tmp_path, monkeypatch):
    assert call in calls(GUIDES[0])
    monkeypatch.chdir(tmp_path)
    for run in ("mine", "a", "b"):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        results = [make_result("sam", slots) for slots in (64, 256, 1024)]
        (folder / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    done = CliRunner().invoke(app, shlex.split(call), catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("guide", [ROOT / "README.md", ROOT / "docs" / "own-model.md"], ids=lambda path: path.name)
def test_every_command_runs_or_is_excused(guide):
    assert [call for call in calls(guide) if call not in RUN and not call.startswith(tuple(NOT_RUN))] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_command_exists(guide):
    """Options and arguments are parsed, targets of `make` exist; nothing is run."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for call in calls(guide):
        name, *arguments = shlex.split(call)
        if name != "--help":
            group.commands[name].make_context(name, arguments)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    made = [line.split()[1] for line in commands(guide) if line.startswith("make ")]
    assert set(made) <= set(targets)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_path_exists(guide):
    """A file named as `folder/file`, and the targets of relative links; kernel sources may be named from kernels/csrc/."""
    text = guide.read_text()
    named = re.findall(r"`((?:kernels|models|reports|suites|tests|mann_bench|block|memory|sequence)/[\w./-]+)`", text)
    missing = [path for path in named if "NAME" not in path and not ((ROOT / path).exists() or (ROOT / "kernels/csrc" / path).exists())]
    linked = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("http", "#"))]
    assert missing + [link for link in linked if not (guide.parent / link).exists()] == []
