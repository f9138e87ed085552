"""Sphinx configuration: `make docs` writes docs/_build/html. Nothing is fetched from the network."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import mann_bench  # noqa: E402  of this checkout

REPOSITORY = "https://github.com/mann-bench/mann-bench/blob/main/"

project = "mann-bench"
author = copyright = "mann-bench contributors"
release = version = mann_bench.__version__
html_theme = "furo"
html_title = f"mann-bench {release}"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "results"]
myst_heading_anchors = 3
nitpicky = False  # types of the signatures are torch's, whose index is not at hand without a network

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "model_config,model_post_init"}
add_module_names = False
napoleon_use_ivar = True  # an attribute is described in one place, whether its class lists it or not

nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True


def link_to_repository(app: Sphinx, document: str, source: list[str]) -> None:
    """Links of the guides to files that are no pages of the site go to the repository."""
    source[0] = re.sub(r"\]\(((?:\.\./|results/)[^)]*)\)", lambda link: f"]({repository_url(link[1])})", source[0])


def repository_url(link: str) -> str:
    """The address of a file, given relative to docs/."""
    return REPOSITORY + (link.removeprefix("../") if link.startswith("../") else f"docs/{link}")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", link_to_repository)
