"""The commit of a checkout, or git's message on why it is not known."""

import subprocess

import pytest

from mann_bench.machine.git import GitError, git_commit, run_git, why_unknown

AUTHOR = ("-c", "user.name=tester", "-c", "user.email=tester@example.org")


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "repository"
    path.mkdir()
    (path / "file").write_text("one")
    for arguments in (("init", "--quiet"), ("add", "."), (*AUTHOR, "commit", "--quiet", "--message", "one")):
        run_git(path, *arguments)
    return path


def test_commit_and_changes(repository, tmp_path):
    commit = run_git(repository, "rev-parse", "HEAD")
    assert git_commit(repository) == {"commit": commit, "dirty": False}
    (repository / "untracked").touch()
    assert git_commit(repository) == {"commit": commit, "dirty": False}
    (repository / "file").write_text("two")
    assert git_commit(repository) == {"commit": commit, "dirty": True}
    assert git_commit(tmp_path) is None


def test_an_owner_that_git_refuses(repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    error = str(git_commit(repository))
    assert error.startswith("{'error': ")
    assert "dubious ownership" in error
    assert "safe.directory" in error


def test_no_commit_yet(tmp_path):
    run_git(tmp_path, "init", "--quiet")
    assert "ambiguous argument 'HEAD'" in str(git_commit(tmp_path))


def test_no_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit(repository) == {"error": "git cannot be run (No such file or directory); install it"}
    assert why_unknown(repository) == ""


def test_git_that_hangs(repository, monkeypatch):
    def hang(command, *, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert git_commit(repository) == {"error": "git rev-parse did not end within 20 s"}


def test_a_shallow_clone(repository, tmp_path):
    run_git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", "shallow")
    assert "git fetch --unshallow" in why_unknown(tmp_path / "shallow")
    assert why_unknown(repository) == ""
    assert git_commit(tmp_path / "shallow") == git_commit(repository)
    with pytest.raises(GitError, match="Needed a single revision"):
        run_git(tmp_path / "shallow", "rev-parse", "--verify", "HEAD~1^{commit}")
