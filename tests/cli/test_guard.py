"""A guard of the user's own model: two commits of a repository without mann-bench, two files; each side runs its own code or none."""

import re
import shlex
from pathlib import Path

import pytest

from mann_bench.cli import compare
from mann_bench.cli.options import SuiteOptions
from mann_bench.data.errors import UsageError
from mann_bench.data.store import load_results, load_run
from mann_bench.run import sides
from mann_bench.run.own_models import Looked, files_of_modules
from mann_bench.run.process import SAME_CODE, Code
from mann_bench.run.replies import Failure
from mann_bench.run.sides import Side, checked_out, refuse_what_cannot_be_compared, side_of_model, why_not_its_own
from tests.run.test_checkouts import git
from tests.support.results import make_result

ROOT = Path(__file__).resolve().parents[2]
MODEL = """
import time
from torch import nn
from my_package.pause import SECONDS

class MyMemory(nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()
        self.layer = nn.Linear(input_size, output_size)

    def forward(self, x, state=None):
        time.sleep(SECONDS)
        return self.layer(x), state
"""
SUITE = 'name = "tiny"\n[fixed]\nsteps = 4\n[[sweep]]\nmodels = ["lstm"]\nslots = ["4"]\n[budget]\ntiming_seconds = 0.3\n'


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits of a user's package, which lies in src/ and on PYTHONPATH; the second one is slow."""
    path = tmp_path / "theirs"
    package = path / "src" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "memory.py").write_text(MODEL)
    (path / "queue.py").write_text("raise SystemExit('a file of the user hides a module of Python')")
    git(path, "init", "--quiet")
    for pause in ("0.001", "0.02"):
        (package / "pause.py").write_text(f"SECONDS = {pause}\n")
        git(path, "add", ".")
        git(path, "commit", "--quiet", "--message", pause)
    (path / "tiny.toml").write_text(SUITE)
    monkeypatch.chdir(path)
    monkeypatch.setenv("PYTHONPATH", "src")
    return path


def test_the_command_of_the_guide_finds_a_slow_commit_of_another_repository(call, repository):
    workflow = (ROOT / "docs" / "own-model.md").read_text().split("```yaml\n")[1].split("```")[0]
    changes = {"--suite quick": "--suite tiny.toml", "--slots 1k,16k": "--slots 4", "--threads 2": "--threads 1"}
    [command] = re.findall(r"run: >\n((?: {10}.*\n)+)", workflow)
    command = command.replace("${{ github.event.pull_request.base.sha }}", "HEAD~1")
    for old, new in changes.items():
        assert old in command
        command = command.replace(old, new)
    program, *arguments = shlex.split(command)
    assert program == "mann-bench"
    done = call(*arguments, "--processes", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed: my_package.memory:MyMemory N=4 train" in done.stderr
    assert (repository / "runs" / "speed" / "compare.html").is_file()
    folders = sorted((repository / "runs" / "speed").glob("HEAD*"))
    results = [load_results(folder)[0] for folder in folders]
    fast, slow = sorted(result.time.step_ms.median for result in results if result.time)
    assert slow > 20 / 4 > fast
    commits = [load_run(folder)["environment"]["git"] for folder in folders]
    assert {commit["commit"] for commit in commits if commit} == {git(repository, "rev-parse", ref).strip() for ref in ("HEAD~1", "HEAD")}
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_commit_is_imported_from_its_checkout_and_a_folder_from_itself(repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"src:{repository.parent}:{repository}/lib")
    with checked_out("HEAD") as head, checked_out(".") as here:
        path = head.path
        assert path is not None
        assert head.code == Code(None, path, (path, path / "src"), f"{path}/src:{repository.parent}:{path}/lib")
        assert head.working_tree == repository
        assert here.code == Code(
            None, repository, (repository, repository / "src"), f"{repository}/src:{repository.parent}:{repository}/lib"
        )
        assert (head.is_own, here.is_own, here.path) == (True, True, repository)
    monkeypatch.chdir(repository / "src")
    with checked_out("HEAD~1") as before:
        assert before.path is not None
        assert before.code.folder == before.path / "src"
        assert before.code.own_folders[:2] == (before.path / "src", before.path)
    (repository / "new").mkdir()
    monkeypatch.chdir(repository / "new")
    with pytest.raises(UsageError, match="expected the folder new at 'HEAD', got a commit without it"), checked_out("HEAD"):
        pass


def test_code_that_is_not_the_sides_own_is_refused(tmp_path, monkeypatch):
    checkout, tree = tmp_path / "checkout", tmp_path / "tree"
    (checkout / "python" / "ops").mkdir(parents=True)
    (checkout / "python" / "ops" / "__init__.py").touch()
    side = Side("HEAD", Code(folder=checkout), path=checkout, root=checkout, working_tree=tree)

    def found(files, problems=None, looked=None):
        return why_not_its_own(side, ["mine.memory:M"], looked or Looked(problems=problems or {}, files=files))

    good = str(checkout / "mine" / "__init__.py")
    assert found({"mine": good, "einops": "/site/einops/__init__.py"}) == []
    assert found({"mine": good}, {"mine:M": "no such module"}) == ["no such module"]
    slow = Failure(status="timeout", reason="no answer")
    assert found({}, looked=slow) == ["mine.memory:M could not be looked at: no answer"]
    for files in ({}, {"mine": "/site/mine.py"}, {"mine": good, "other": f"{tree}/other.py"}, {"mine": good, "ops": "/site/ops.py"}):
        [sentence] = found(files)
        assert "so that both sides would run the same code" in sentence
    case = make_result("mine.memory:M").case
    monkeypatch.setattr(sides, "look_at", lambda *_: [Looked()])
    with pytest.raises(UsageError, match=r"compare: HEAD: expected 'mine' to be imported from .*, got somewhere else"):
        refuse_what_cannot_be_compared((side, side), ([case], [case]))


def test_where_modules_lie():
    found = files_of_modules(["mann_bench.run.sides", "os", "no_such_module"])
    assert {name: Path(path).parent.name for name, path in found.items()} == {"mann_bench": "mann_bench"}


def test_two_files_of_one_name_and_modules(tmp_path, monkeypatch):
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my.py").touch()
    (tmp_path / "tiny.toml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    old, name = side_of_model("before/my.py:M")
    assert (old.code.own_folders, old.path, name) == ((tmp_path / "before",), tmp_path / "before", "my:M")
    assert side_of_model("my_package:M") == (Side("my_package:M", SAME_CODE), "my_package:M")
    with pytest.raises(UsageError, match=r"expected a file and what it defines, as old.py:MyMemory, got 'gone.py:M'"):
        side_of_model("gone.py:M")
    suites, (first, second) = compare._two_models("tiny.toml", SuiteOptions(model=["before/my.py:M", "after/my.py:M"], slots="4,8"))
    assert [[(case.model, case.slots) for case in suite.cases] for suite in suites] == [[("my:M", 4), ("my:M", 8)]] * 2
    assert (first.name, second.name) == ("before/my.py:M", "after/my.py:M")
    suites, _ = compare._two_models("tiny.toml", SuiteOptions(model=["my:M"], models="lstm"))
    assert [[case.model for case in suite.cases] for suite in suites] == [["lstm"], ["my:M"]]


def test_what_is_no_pair_is_told(call):
    assert "got nothing to compare" in call("compare").stderr
    assert "two models (--model old.py:MyMemory --model new.py:MyMemory), got 1 models" in call("compare", "--model", "a:M").stderr
    assert "expected two git refs or folders beside --suite, got 'main' alone" in call("compare", "main", "--suite", "quick").stderr
    assert "expected two run folders, got one alone" in call("compare", ".").stderr
