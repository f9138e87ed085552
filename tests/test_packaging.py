"""Packaging: every folder is listed, every symlink points home, the wrong import name is banned."""

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


@pytest.mark.parametrize("name", ["models", "kernels", "suites", "reports"])
def test_symlinks(name):
    link = ROOT / "mann_bench" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert name in PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]


def test_version_is_the_package_version():
    assert PROJECT["project"]["version"] == mann_bench.__version__
