"""Packaging: every folder is packaged, symbolic links point to the folders beside `mann_bench/`, and wrong import names are banned."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages
from setuptools.config.pyprojecttoml import read_configuration

import mann_bench

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("models", "kernels", "suites", "reports")
NOT_INSTALLED = ("tests", "docs", ".ci")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages():
    """Every package as setuptools finds it, by name: its folder in the repository."""
    found = find_packages(str(ROOT), include=PROJECT["tool"]["setuptools"]["packages"]["find"]["include"])
    return {name: (ROOT / name.replace(".", "/")).resolve().relative_to(ROOT) for name in found}


def test_every_folder_with_code_is_packaged():
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    folders = {Path(path).parent for path in tracked} - {Path("suites/micro")}  # a pytest front end, which is not installed
    assert set(packages().values()) == {folder for folder in folders if folder != Path() and folder.parts[0] not in NOT_INSTALLED}


def test_files_that_are_no_python_are_packaged_too():
    """What the code reads at run time: kernels' sources, suites, templates, claims."""
    data = PROJECT["tool"]["setuptools"]["package-data"]
    listed = set()
    for name, patterns in data.items():
        listed |= {path for pattern in patterns for path in ROOT.joinpath(packages()[name]).glob(pattern)}
    tracked = subprocess.run(["git", "ls-files", "mann_bench", *FOLDERS], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    needed = {ROOT / path for path in tracked if not path.endswith(".py") and not (ROOT / path).is_symlink()}
    assert needed <= listed


@pytest.mark.parametrize("name", FOLDERS)
def test_symlinks(name):
    link = ROOT / "mann_bench" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert name in PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]


def test_version_is_the_package_version():
    """It is written in `mann_bench/__init__.py`; the package, the citation and the changelog agree with it."""
    assert read_configuration(ROOT / "pyproject.toml")["project"]["version"] == mann_bench.__version__
    assert f"\nversion: {mann_bench.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{mann_bench.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_make_lets_python_keep_what_it_compiles():
    """pip compiles nothing, so that each process would compile torch anew where the environment forbids to keep it."""
    command = ["make", "--no-print-directory", "--eval", "show: ; @echo [$$PYTHONDONTWRITEBYTECODE]", "show"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
