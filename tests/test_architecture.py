"""The import rules are the table in CONTRIBUTING.md: a package imports those that its row names, and a row names only rows above it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| `mann_bench\.([\w.]+)` \|.*\|([^|]*)\|$", re.MULTILINE)
RULES = {package: re.findall(r"`([\w.]+)`", names) for package, names in ROW.findall((ROOT / "CONTRIBUTING.md").read_text())}
MODULE_TEXT = re.compile(r"mann_bench(\.\w+)+(:\w+)?")
# Packages that a module names as text and loads when they are needed; CONTRIBUTING.md says why.
BY_NAME = {
    "data.registry": {"measure", "models", "suites.tasks", "suites.workloads"},
    "run.process": {"worker"},
}


def sources() -> dict[str, str]:
    """The text of every module, by its name without `mann_bench.`."""
    files = [path for folder in ("mann_bench", "kernels", "models", "suites", "reports") for path in (ROOT / folder).rglob("*.py")]
    names = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in files if "micro" not in path.parts}
    return {name.removeprefix("mann_bench.").removesuffix(".__init__"): path.read_text() for name, path in names.items()}


def package_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    return max((package for package in RULES if f"{module}.".startswith(f"{package}.")), key=len, default=module)


def targets(text: str) -> Iterator[tuple[str, bool]]:
    """Modules that a module imports, anywhere in it, and those it names as text, with whether it is text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "mann_bench":
            yield from ((f"{node.module}.{alias.name}", False) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names if alias.name.split(".")[0] == "mann_bench")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_TEXT.fullmatch(node.value):
            yield node.value.partition(":")[0], True


def violations(modules: dict[str, str]) -> list[str]:
    """Imports that the table does not allow, as `importer -> imported`."""
    wrong = []
    for module, text in modules.items():
        package = package_of(module)
        for target, is_text in targets(text):
            other = package_of(target.removeprefix("mann_bench."))
            allowed = {package, *RULES[package], *(BY_NAME.get(module, ()) if is_text else ())}
            if other in RULES and other not in allowed:  # other names are older layouts', which the points of the history still read
                wrong.append(f"{module} -> {target}")
    return wrong


def test_imports_keep_to_the_table():
    assert violations(sources()) == []


def test_every_package_has_a_row():
    assert {package_of(module) for module in sources()} == set(RULES)


def test_no_circle():
    """Rows name only rows above them."""
    order = list(RULES)
    assert [(row, name) for row in order for name in RULES[row] if name not in order[: order.index(row)]] == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("kernels.ops.planted", "from mann_bench.run.runner import run_suite"),
        ("models.planted", "def late():\n    import mann_bench.measure.timing"),
        ("measure.planted", "from mann_bench import reports"),
        ("machine.planted", "import_target('task', 'mann_bench.suites.tasks:Task')"),
        ("data.registry", "from mann_bench.measure.workload import Workload"),
    ],
)
def test_a_planted_violation_is_found(module, text):
    assert len(violations({module: text})) == 1
