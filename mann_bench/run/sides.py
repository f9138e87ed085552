"""The two sides of a comparison: states of mann-bench, of the user's code, or two models; each is what its workers run.

A git ref is checked out into a worktree, a folder is used as it is. One that holds `mann_bench/worker.py` is a state of mann-bench, whose
workers run its code. Any other holds code of the user's: the workers run this mann-bench and import the user's modules from there, before
they look among installed packages.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.registry import find_model
from mann_bench.machine.git import GitError, git_commit, run_git, why_unknown
from mann_bench.run.own_models import Looked, look_at, nothing, options_of, own_names
from mann_bench.run.process import SAME_CODE, Code
from mann_bench.run.replies import Failure

WORKER = Path("mann_bench") / "worker.py"
LOOK_S = 300.0  # to import models on a busy machine


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        name: as the user wrote it.
        code: what its workers run.
        path: the folder that the user's modules must come from; None: anywhere.
        root: the checkout whose commit is the side's; None if there is none.
        working_tree: folder of the user's repository, from which nothing may come if `path` is another checkout of it.
    """

    name: str
    code: Code
    path: Path | None = None
    root: Path | None = None
    working_tree: Path | None = None

    @property
    def is_own(self) -> bool:
        """Whether this mann-bench runs code of the user's, instead of another mann-bench."""
        return self.code.checkout is None

    @property
    def folder_name(self) -> str:
        """Name of the folder for its results: `main-1b9aa13`, or `working-tree` for a folder without commits."""
        commit = git_commit(self.root) if self.root else None
        name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in self.name).strip("-") or "working-tree"
        return f"{name}-{commit['commit'][:7]}" if commit and "commit" in commit else name


def side_of_model(text: str) -> tuple[Side, str]:
    """The side of a model named as `package.module:factory` or `folder/file.py:factory`, and the model's name for a case."""
    path, colon, factory = text.partition(":")
    if not (colon and path.endswith(".py")):
        return Side(text, SAME_CODE), text
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"--model: expected a file and what it defines, as old.py:MyMemory, got {text!r}; there is no file {path!r} here")
    folder = file.resolve().parent
    return Side(text, Code(own_folders=(folder,)), path=folder), f"{file.stem}:{factory}"


@contextlib.contextmanager
def checked_out(name: str) -> Iterator[Side]:
    """Check out a git ref of the repository around the current folder into a temporary worktree. A folder is used as it is.

    A name of both is the ref, unless the folder holds a mann-bench; `./name` is the folder.

    Raises:
        UsageError: the name is neither.
    """
    here = Path.cwd()
    if (here / name / WORKER).is_file():
        path = (here / name).resolve()
        yield Side(name, Code(checkout=path), root=path)
        return
    try:
        root = Path(run_git(here, "rev-parse", "--show-toplevel"))
        commit = run_git(here, "rev-parse", "--verify", f"{name}^{{commit}}")
    except GitError as error:
        if (here / name).is_dir():
            yield _own_folder(name, (here / name).resolve())
            return
        expected = f"expected a git ref (of a repository around here) or a folder with a checkout, got {name!r}"
        raise UsageError(f"compare: {expected} ({error}){why_unknown(here)}") from error
    with tempfile.TemporaryDirectory(prefix="mann-bench-") as temporary:
        path = Path(temporary).resolve() / commit[:12]
        try:
            try:
                run_git(root, "worktree", "add", "--detach", str(path), commit)
            except GitError as error:
                raise UsageError(f"compare: git could not check out {name!r} ({error}); does `git worktree add` work here?") from error
            if (path / WORKER).is_file():
                yield Side(name, Code(checkout=path), root=path)
            else:
                yield _own_checkout(name, path, root.resolve(), here.resolve())
        finally:
            with contextlib.suppress(GitError):
                run_git(root, "worktree", "remove", "--force", str(path))


def refuse_what_cannot_be_compared(
    sides: tuple[Side, Side], cases: tuple[Sequence[Case], Sequence[Case]], meanwhile: Callable[[], object] = nothing
) -> None:
    """UsageError unless both sides are of one kind, their own models can be made, and each is that side's.

    Args:
        cases: that each side runs.
        meanwhile: what this process does while others look at the models.
    """
    if sides[0].is_own != sides[1].is_own:
        users, other = sides if sides[0].is_own else sides[::-1]
        raise UsageError(
            f"compare: expected two states of one repository, got {other.name!r}, a mann-bench, and {users.name!r}, which has no {WORKER}"
        )
    if not sides[0].is_own:
        return
    looks: dict[tuple[Code, Path | None], tuple[Side, list[Case]]] = {}  # sides that import from the same place are looked at once
    for side, of_side in zip(sides, cases, strict=True):
        names = own_names([case.model for case in of_side])
        if side.path and not names:
            raise UsageError(
                f"compare: expected {WORKER} at {side.name!r} or a model of your own, got neither; name the model that this repository "
                "holds: --model package.module:factory"
            )
        if names:
            looks.setdefault((side.code, side.path), (side, []))[1].extend(case for case in of_side if case.model in names)
    looked = look_at([(options_of(own), side.code) for side, own in looks.values()], LOOK_S, meanwhile) if looks else []
    for (side, own), found in zip(looks.values(), looked, strict=True):
        if problems := why_not_its_own(side, own_names([case.model for case in own]), found):
            raise UsageError(f"compare: {side.name}: {'; '.join(problems)}")


def why_not_its_own(side: Side, models: Sequence[str], looked: Looked | Failure) -> list[str]:
    """Why a side cannot run models of the user's, with the options they are given, or would run those of another place.

    Args:
        looked: what a worker of the side found.
    """
    if isinstance(looked, Failure):
        return [f"{', '.join(models)} could not be looked at: {looked.reason}"]
    if looked.problems or looked.refused or side.path is None:
        return [*looked.problems.values(), *looked.refused]
    files = looked.files
    ours = {find_model(name).target.partition(":")[0].partition(".")[0] for name in models}
    strange = {name: files.get(name, "somewhere else") for name in sorted(ours) if name not in files}
    strange |= {name: file for name, file in files.items() if _is_strange(side, Path(file), name, name in ours)}
    return [
        f"expected {name!r} to be imported from {side.path}, got {file}, so that both sides would run the same code; take that folder off "
        "PYTHONPATH, uninstall the package, or give two folders instead of git refs"
        for name, file in strange.items()
    ]


def _is_strange(side: Side, file: Path, name: str, is_ours: bool) -> bool:
    """Whether the file of a module that a model imported is not the side's, though it should be."""
    assert side.path is not None
    file = file.resolve()
    if file.is_relative_to(side.path) or (side.root and file.is_relative_to(side.root)):
        return False
    if is_ours:
        return True
    if side.working_tree and file.is_relative_to(side.working_tree) and not file.is_relative_to(Path(sys.prefix).resolve()):
        return True
    folders = [side.path, *(folder for folder in side.path.iterdir() if folder.is_dir() and not folder.name.startswith("."))]
    return any((folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file() for folder in folders)


def _own_folder(name: str, folder: Path) -> Side:
    """The side of the user's code in a folder."""
    try:
        root = Path(run_git(folder, "rev-parse", "--show-toplevel")).resolve()
    except GitError:
        root = folder
    return Side(name, Code(None, folder, _sources(folder, root), _python_path({})), path=folder, root=root)


def _own_checkout(name: str, checkout: Path, working_tree: Path, here: Path) -> Side:
    """The side of the user's code in a worktree: its workers start in the folder that is the current one of the working tree."""
    folder = checkout / here.relative_to(working_tree)
    if not folder.is_dir():
        raise UsageError(f"compare: expected the folder {here.relative_to(working_tree)} at {name!r}, got a commit without it")
    code = Code(None, folder, _sources(folder, checkout), _python_path({working_tree: checkout}))
    return Side(name, code, path=checkout, root=checkout, working_tree=working_tree)


def _sources(folder: Path, root: Path) -> tuple[Path, ...]:
    """Where the user's modules may lie: the folder, the root of its repository, and `src` in each."""
    return tuple(dict.fromkeys(path for path in (folder, folder / "src", root, root / "src") if path.is_dir()))


def _python_path(moved: dict[Path, Path]) -> str:
    """PYTHONPATH with absolute folders; those below a working tree become those of its checkout, but for installed packages."""
    folders = []
    for entry in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        folder = Path(entry).resolve()
        for old, new in moved.items():
            if folder.is_relative_to(old) and not folder.is_relative_to(Path(sys.prefix).resolve()):
                folder = new / folder.relative_to(old)
        folders.append(str(folder))
    return os.pathsep.join(folders)
