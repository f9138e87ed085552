"""Packaging: every folder is listed, every symlink points home, the wrong import name is banned."""

import subprocess
import tomllib
from pathlib import Path

import pytest

import mann_bench

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_folder_is_listed():
    folders = {ROOT / "mann_bench", *(ROOT / name for name in ("models", "kernels", "suites", "reports"))}
    with_code = {
        folder for top in folders for folder in [top, *top.rglob("*")] if (folder / "__init__.py").is_file() and not folder.is_symlink()
    }
    with_code = {folder for folder in with_code if not any(parent.is_symlink() for parent in [folder, *folder.parents])}
    listed = {ROOT / PROJECT["tool"]["setuptools"]["package-dir"][name] for name in PROJECT["tool"]["setuptools"]["packages"]}
    assert listed == with_code


def test_files_that_are_no_python_are_packaged_too():
    """What the code reads at run time: kernels' sources, suites, templates, claims."""
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items():
        patterns = data.get(name, [])
        tracked = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
        for path in map(Path, tracked):
            inside = path.relative_to(folder)
            owner = max((n for n, f in PROJECT["tool"]["setuptools"]["package-dir"].items() if path.is_relative_to(f)), key=len)
            if owner == name and path.suffix != ".py" and not (ROOT / path).is_symlink():
                assert any(inside.match(pattern) for pattern in patterns), f"{path} is not in package-data of {name}"


@pytest.mark.parametrize("name", ["models", "kernels", "suites", "reports"])
def test_symlinks(name):
    link = ROOT / "mann_bench" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert name in PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]


def test_version_is_the_package_version():
    assert PROJECT["project"]["version"] == mann_bench.__version__
