"""Git: the commit that this code is, or why that is not known."""

import subprocess
from pathlib import Path

from mann_bench.data.conditions import Commit

SECONDS = 20.0  # a repository on a slow file system


class GitError(RuntimeError):
    """Git is missing or refused; the message is in its own words."""


def run_git(where: Path, *arguments: str, seconds: float | None = None) -> str:
    """Run git in a folder and return what it prints; GitError if it fails or takes longer."""
    command = ["git", "-C", str(where), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds)
    except OSError as error:
        raise GitError(f"git cannot be run ({error.strerror}); install it") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {arguments[0]} did not end within {seconds:g} s") from error
    if done.returncode:
        raise GitError(" ".join(done.stderr.split()) or f"git {arguments[0]} ended with exit code {done.returncode}")
    return done.stdout.strip()


def git_commit(root: Path | None = None) -> Commit | None:
    """Commit of a checkout, by default the one this code runs from.

    Returns:
        `commit`, and `dirty`: whether it has uncommitted changes. Where git does not tell, `error` says why. None if it is no checkout.
    """
    root = root or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = run_git(root, "rev-parse", "HEAD", seconds=SECONDS)
        changed = run_git(root, "status", "--porcelain", "--untracked-files=no", seconds=SECONDS)
    except GitError as error:
        return {"error": str(error)}
    return {"commit": commit, "dirty": bool(changed)}


def why_unknown(where: Path) -> str:
    """A hint for a ref that git does not know: a shallow clone has few commits; empty if it is none."""
    try:
        shallow = run_git(where, "rev-parse", "--is-shallow-repository") == "true"
    except GitError:
        return ""
    return "; this is a shallow clone: `git fetch --unshallow` gets the other commits" if shallow else ""
