"""Sphinx: Markdown by MyST, the API reference from docstrings, the tutorial run at each build. Needs no network."""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

import mann_bench

project = "mann-bench"
author = "mann-bench contributors"
copyright = author
version = release = mann_bench.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "results/*/report"]  # reports are files that pages link to
html_theme = "furo"
html_title = f"mann-bench {release}"

default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "model_config"}

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True  # the tutorial writes files
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"

REPOSITORY = "https://github.com/mann-bench/mann-bench/tree/main/"
ROOT = Path(__file__).resolve().parent.parent
FROM_ROOT = {"index": "README.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Put README and its like in front of the pages that stand for them; point links to what is no page at the repository."""
    folder = ROOT / "docs" / os.path.dirname(name)
    pages = app.env.found_docs

    def target(link: re.Match[str], base: Path) -> str:
        path = base / link[1]
        file = Path(os.path.normpath(path)).relative_to(ROOT)
        if not path.exists():
            raise FileNotFoundError(f"{name}: expected a link to a file of the repository, got {link[1]!r}")
        is_page = file.parts[0] == "docs" and file.suffix in (".md", ".ipynb") and str(Path(*file.parts[1:]).with_suffix("")) in pages
        if is_page or file.suffix in (".png", ".svg"):
            return os.path.relpath(ROOT / file, folder)
        page = next((page for page, root_file in FROM_ROOT.items() if root_file == str(file)), None)
        return f"{os.path.relpath(ROOT / 'docs', folder)}/{page}.md" if page else REPOSITORY + file.as_posix()

    text = LINK.sub(lambda link: target(link, folder), source[0])
    if name in FROM_ROOT:
        text = LINK.sub(lambda link: target(link, ROOT), (ROOT / FROM_ROOT[name]).read_text()) + "\n" + text
    source[0] = text


def setup(app: Sphinx) -> None:
    """Register the hook."""
    app.connect("source-read", read_page)
