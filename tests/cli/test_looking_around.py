"""Help, version, completion, `list` and `plan`: what a user sees before anything is measured."""

import atexit
import gc
import json
import os
import subprocess
import sys

import pytest

from mann_bench.cli.console import PlainConsole
from mann_bench.cli.listings import LISTINGS
from mann_bench.cli.options import complete_model, complete_suite
from mann_bench.cli.tables import print_rows
from tests.support.results import make_result

SUITE = """
name = "mixed"
[fixed]
heads = [1, 4]
batch = 2
[[sweep]]
models = ["ntm", "sam"]
slots = ["64", "1M"]
[budget]
memory = "1G"
"""


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("list", "plan", "compare"):
        monkeypatch.setattr(f"mann_bench.cli.{command}.wide_console", lambda: PlainConsole(width=80))


def test_help_keeps_each_example_in_a_line(call, narrow):
    text = call("-h").stdout
    assert call("--help").stdout == text
    assert "\n    mann-bench run quick                   sweep, measure, store\n" in text
    assert "\n    mann-bench run my.toml --models sam,ntm --slots 1k,64k --out runs/mine\n" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "--slots" in call("run", "-h").stdout


def test_the_end_of_a_command_looks_for_no_garbage(call, monkeypatch):
    """Among all that torch keeps, that would take half a second."""
    at_exit: list[object] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    call("--version")
    assert gc.freeze in at_exit


def test_version(call):
    import mann_bench

    assert call("--version")[:2] == (0, f"mann-bench {mann_bench.__version__}\n")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("mann-bench la", ["largest"]),
        ("mann-bench run sc", ["scaling"]),
        ("mann-bench run quick --models sam,ntm-ch", ["sam,ntm-checkpointed"]),
    ],
)
def test_completion_in_bash(words, completed):
    """As the shell asks for it: a process with the name of the installed command."""
    asked = {"_MANN_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    program = "import sys; sys.argv = ['mann-bench']; from mann_bench.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == completed, done.stderr


def test_completion_of_files_and_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.toml", "b.txt", "folder/c.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert {"quick", "a.toml", "folder/"} <= set(complete_suite(""))
    assert "folder/c.toml" in complete_suite("folder/")
    assert "b.txt" not in complete_suite("b")
    assert complete_suite("nowhere/x")
    assert complete_model("ntm,dam-g") == ["ntm,dam-graph"]


@pytest.mark.parametrize("what", LISTINGS)
def test_every_list_fits_80_columns_and_prints_json(call, narrow, what):
    done = call("list", what)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    rows = json.loads(call("list", what, "--json").stdout)
    assert rows
    for row in rows:
        name = str(next(iter(row.values())))
        assert (name.rpartition(".")[2] if what == "options" else name) in done.stdout


def test_an_option_of_several_models_is_listed_once(call, narrow):
    lines = call("list", "options").stdout.splitlines()
    assert "erase=always of sam, sdnc: a text" in map(str.rstrip, lines)
    options = [line for line in lines if not line.startswith(" ")]
    assert len(set(options)) == len(options)
    assert len(lines) < 3 * len(options)


def test_a_comparison_fits_80_columns(call, narrow, tmp_path):
    for run, per_step in (("a", 1000), ("b", 1_234_567)):
        results = [
            make_result("ntm", n, variant="checkpointed", heads=heads, per_step=per_step) for n in (2**16, 2**20) for heads in (1, 4)
        ]
        (tmp_path / run).mkdir()
        (tmp_path / run / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    done = call("compare", tmp_path / "a", tmp_path / "b")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["case", "A", "ms", "B", "ms", "B/A", "95%", "interval", "verdict", "memory"]
    assert max(map(len, lines[:5])) <= 80
    assert [line.split()[-1] for line in lines[1:5]] == ["changed"] * 4
    assert "1,000 -> 1,234,567" in lines[5]


def test_a_table_too_wide_loses_a_column_and_then_wraps(capsys):
    row = ["ntm-checkpointed N=64k", "0.123", "0.00012", "INCONCLUSIVE"]
    for width, heads in ((60, ["case", "ms", "p", "verdict"]), (45, ["case", "ms", "verdict"]), (30, ["case", "ms", "verdict"])):
        print_rows(PlainConsole(width=width, stderr=True), ["case", "ms", "p", "verdict"], [row], spare=("p",))
        lines = capsys.readouterr().err.splitlines() or pytest.fail("nothing was printed")
        assert lines[0].split() == heads
        assert max(map(len, lines)) <= width


def test_lists_say_what_there_is(call):
    assert "op:sparse_read" in call("list", "ops").stdout
    assert "key_bits=16" in call("list", "tasks").stdout
    assert "time-ann" in call("list", "claims").stdout
    rows = {row["name"]: row for row in json.loads(call("list", "indexes", "--json").stdout)}
    assert rows["lsh"]["here"] == "available"
    assert rows["kd-forest"]["what"].endswith("(Rae et al. 2016, figure 1), as OpenCV ships it")


class TestPlan:
    """The table of `plan`."""

    @pytest.fixture
    def mixed(self, tmp_path):
        path = tmp_path / "mixed.toml"
        path.write_text(SUITE)
        return path

    def test_shows_what_varies_in_columns_and_the_rest_in_a_line(self, call, narrow, mixed):
        lines = call("plan", mixed).stdout.splitlines()
        assert lines[0].startswith("in all cases: kernels auto, index exact, mode train, device cpu, B 2, T 10, K 4")
        head = next(line for line in lines if line.startswith("model"))
        assert head.split() == ["model", "N", "R", "predicted", "time"]
        assert max(map(len, lines[:-1])) <= 80

    def test_says_what_is_not_run_and_how_long_the_rest_takes(self, call, mixed):
        done = call("plan", mixed)
        assert done.returncode == 0
        assert sum(line.endswith("too large") for line in map(str.rstrip, done.stdout.splitlines())) == 2
        assert "8 cases, 2 of them not run, about" in done.stdout
        assert "warning: 2 cases take more than the budget of 1 GiB and are skipped" in done.stderr

    def test_says_what_this_machine_lacks(self, call, mixed, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        done = call("plan", mixed, "--device", "cuda")
        assert done.returncode == 0
        assert "warning: 8 cases are unavailable here: no NVIDIA GPU" in done.stderr
        assert "8 of them not run, about 0 s" in done.stdout
        row = json.loads(call("plan", mixed, "--device", "cuda", "--json").stdout)[0]
        assert row["unavailable"].startswith("no NVIDIA GPU")
        assert row["seconds"] == 0
