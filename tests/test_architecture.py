"""Imports between the parts of the project are those that the table in CONTRIBUTING.md allows; a part imports only parts above it.

Types say what values are: few lines use `Any`.
"""

import ast
import graphlib
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROWS = re.findall(r"^\| `(\w+)` \|.*\| (nothing|`[\w`, ]+`) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
MAY_IMPORT = {name: re.findall(r"`(\w+)`", allowed) for name, allowed in ROWS}
NAMED_BY_TEXT = re.compile(r"mann_bench(\.\w+)+:\w+")  # "package.module:name": imported later, so it counts as an import
PLUGIN_TABLE = "mann_bench/data/registry.py"
OLD_MODULES = ("mann_bench.result.", "mann_bench.runner.", "mann_bench.suite.")  # asv runs commits before 0.2.0, too
ENTRY_POINTS = ("mann_bench/__main__.py", "mann_bench/worker.py", "suites/micro/", "suites/regression/")


def box_of(path: str) -> str:
    """The row of the table that a file belongs to."""
    if path.startswith(ENTRY_POINTS):
        return "entry"
    first = path.removeprefix("mann_bench/").split("/")[0]
    return "api" if first in ("__init__.py", "api.py") else first


def imported(path: str, source: str) -> set[str]:
    """Boxes that a file imports, its own not among them; `mann_bench.__version__` may be imported by all."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and path != PLUGIN_TABLE and NAMED_BY_TEXT.fullmatch(str(node.value)):
            names.add(str(node.value).split(":")[0])
    if path.startswith("suites/regression/"):
        names = {name for name in names if not name.startswith(OLD_MODULES)}
    parts = {tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "mann_bench"} - {("__version__",)}
    return {part[0] if part and part[0] in MAY_IMPORT else "api" for part in parts} - {box_of(path)}


def forbidden(path: str, source: str) -> set[str]:
    return imported(path, source) - set(MAY_IMPORT[box_of(path)])


def sources() -> list[str]:
    paths = [
        path.relative_to(ROOT) for top in ("mann_bench", "models", "kernels", "suites", "reports") for path in (ROOT / top).rglob("*.py")
    ]
    return [str(path) for path in paths if not (ROOT / path.parts[0] / path.parts[1]).is_symlink()]


def test_only_allowed_imports():
    found = {path: forbidden(path, (ROOT / path).read_text()) for path in sources()}
    assert {path: boxes for path, boxes in found.items() if boxes} == {}


def test_no_circle():
    rows = list(MAY_IMPORT)
    assert {"kernels", "models", "data", "measure", "run", "reports", "cli"} <= set(rows)
    assert all(rows.index(below) < rows.index(box) for box in rows for below in MAY_IMPORT[box])


def module_of(path: str) -> str:
    return path.removeprefix("mann_bench/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_no_circle_between_modules_and_none_between_the_folders_of_a_box():
    """Imports inside functions count. `models` and `models/sparse` are one: a sparse memory is a kind of state."""
    modules = {module_of(path): path for path in sources()}
    folders = {module_of(str(folder.relative_to(ROOT))) for box in ("kernels", "reports", "suites") for folder in (ROOT / box).iterdir()}
    by_module: dict[str, set[str]] = defaultdict(set)
    by_folder: dict[str, set[str]] = defaultdict(set)
    for module, path in modules.items():
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mann_bench."):
                within = str(node.module).removeprefix("mann_bench.")
                by_module[module] |= {name if (name := f"{within}.{alias.name}") in modules else within for alias in node.names}
        folder = ".".join(module.split(".")[:2])
        if folder in folders:
            by_folder[folder] |= {target for name in by_module[module] if (target := ".".join(name.split(".")[:2])) in folders}
    assert len(by_folder) > 10
    for graph in (by_module, by_folder):
        graphlib.TopologicalSorter({name: targets - {name} for name, targets in graph.items()}).prepare()  # raises CycleError


def test_nothing_is_allowed_that_is_not_used():
    arrows = {(box_of(path), box) for path in sources() for box in imported(path, (ROOT / path).read_text())}
    assert arrows == {(box, below) for box in MAY_IMPORT for below in MAY_IMPORT[box]}


def lines_with_any(source: str) -> set[int]:
    """Lines that use `Any`; one that imports it does not."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name | ast.Attribute)]
    return {node.lineno for node in nodes if (node.id if isinstance(node, ast.Name) else node.attr) == "Any"}


def test_few_lines_use_any():
    found = [f"{path}:{line}" for path in sources() for line in sorted(lines_with_any((ROOT / path).read_text()))]
    assert 0 < len(found) < 60, found


def test_planted_any():
    source = "import typing\nfrom typing import Any\n\ndef f(x: Any, *y: Any) -> list[Any]:  # Any\n    'Any'\n    z: typing.Any = x\n"
    assert lines_with_any(source) == {4, 6}


@pytest.mark.parametrize(
    ("path", "source", "boxes"),
    [
        ("models/sam.py", "from mann_bench.measure import timing", {"measure"}),
        ("kernels/ops/lsh.py", "def f():\n    import mann_bench.models.sam", {"models"}),
        ("mann_bench/data/case.py", "from mann_bench import reports, __version__", {"reports"}),
        ("mann_bench/measure/gate.py", "TASK = 'mann_bench.suites.tasks:recall'", {"suites"}),
        ("mann_bench/run/runner.py", "from mann_bench import run_suite", {"api"}),
        (PLUGIN_TABLE, "KIND = 'mann_bench.suites.workloads.ops:OpWorkload'", set()),
    ],
)
def test_planted_imports(path, source, boxes):
    assert forbidden(path, source) == boxes
