"""How commands print text that comes from models, and which errors they report for odd options."""

import json
import re
from datetime import datetime

import pytest

from mann_bench.cli import options
from mann_bench.cli.console import PlainConsole, console, tell, wide_console
from mann_bench.cli.options import new_folder
from mann_bench.data.labels import Labels
from mann_bench.data.text import SHOWN_CHARACTERS, shortened
from mann_bench.run.session import line
from tests.support.results import make_result

EVIL = "[/x] [red]:smile: \x1b[31mred\x1b[0m \x07"
SHOWN = "[/x] [red]:smile: \\x1b[31mred\\x1b[0m \\x07"


class TestTextFromModels:
    """Names, reasons and errors may hold any characters."""

    def test_is_printed_as_it_is(self, capsys):
        tell(EVIL)
        wide_console().print(EVIL)
        assert list(capsys.readouterr()) == [SHOWN + "\n"] * 2

    def test_is_not_highlighted(self, monkeypatch):
        """Highlighting takes time that grows with the square of the length."""

        def highlight(*_):
            raise AssertionError("highlighted")

        monkeypatch.setattr("rich.highlighter.ReprHighlighter.highlight", highlight)
        tell("x" * 100_000)
        wide_console().print("x" * 100_000)

    def test_every_console_of_the_commands_is_plain(self):
        assert isinstance(console, PlainConsole)
        assert isinstance(wide_console(), PlainConsole)

    def test_a_long_reason_is_cut_and_the_cut_is_shown(self):
        assert shortened("x" * SHOWN_CHARACTERS) == "x" * SHOWN_CHARACTERS
        assert shortened("x" * 100_000) == "x" * SHOWN_CHARACTERS + "... (99,500 more characters)"
        assert shortened(" first\n\tsecond\x1b ") == "first second\\x1b"
        shown = line(make_result(status="error", reason="x" * 100_000), Labels([]))
        assert len(shown) < SHOWN_CHARACTERS + 100

    def test_saved_bytes_have_their_interval_where_it_is_wide(self):
        result = make_result(per_step=128)
        memory = result.memory.model_copy(update={"bytes_per_step_low": -2739.0, "bytes_per_step_high": 2995.0})
        assert "128 [0, 2,995] bytes/step" in line(result.model_copy(update={"memory": memory}), Labels([]))
        memory = memory.model_copy(update={"bytes_per_step_low": 127.0, "bytes_per_step_high": 129.0})
        assert ", 128 bytes/step" in line(result.model_copy(update={"memory": memory}), Labels([]))

    def test_in_the_table_of_plan(self, call, tmp_path):
        suite = tmp_path / "evil.toml"
        models = json.dumps([f"json:{EVIL}"])
        suite.write_text(f'name = "evil"\n[[sweep]]\nmodels = {models}\nslots = ["64"]\n')
        code, output, error = call("plan", suite)
        assert code == 1
        for text in (output, error):
            assert "[/x]" in text
            assert "\x1b" not in text

    def test_in_the_table_of_compare(self, call, tmp_path):
        results = [make_result(f"m:{EVIL}"), make_result(f"n:{EVIL}", status="oom", reason=EVIL)]
        (tmp_path / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
        code, output, _ = call("compare", tmp_path, tmp_path)
        assert code == 0
        assert "[/x]" in output
        assert "\x1b" not in output


class TestPlan:
    """A misspelt name, or a case that can never be built, is reported before anything runs."""

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ('models = ["sam"]\nindex = "lhs"', "index: expected one of"),
            ('models = ["my_modul:Memory"]', "there is no module 'my_modul' here"),
            ('models = ["sam"]\nkernels = "fast"', "kernels: expected one of"),
            ('models = ["ntm-graph"]', "ntm-graph needs a CUDA device"),
            ('models = ["sam-graph"]\ndevice = "cuda"\nmode = "infer"', "sam-graph needs mode train"),
        ],
    )
    def test_a_case_that_can_never_be_built(self, call, tmp_path, fields, problem):
        suite = tmp_path / "wrong.toml"
        suite.write_text(f'name = "wrong"\n[[sweep]]\nslots = ["64"]\n{fields}\n')
        code, _, error = call("plan", suite)
        assert code == 1
        assert error.startswith("error: ")
        assert problem in error


@pytest.mark.parametrize("option", ["--models", "--slots"])
@pytest.mark.parametrize("text", ["", " , "])
def test_an_option_without_a_value(call, option, text):
    code, _, error = call("plan", "quick", option, text)
    assert (code, error) == (2, f"error: {option}: expected at least one, got none; leave the option out to take the suite's\n")


def test_more_threads_than_processors(call, monkeypatch):
    monkeypatch.setattr(options, "usable_threads", lambda: 2)
    assert "warning: --threads 3: only 2 processors" in call("plan", "quick", "--models", "lstm", "--threads", "3")[2]
    assert call("plan", "quick", "--models", "lstm", "--threads", "2")[2] == ""


class TestNewFolder:
    """The folder of a command without --out."""

    def test_commands_started_in_the_same_second_get_different_folders(self, monkeypatch, tmp_path):
        class Noon(datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(2026, 1, 2, 12, 0, 0, tzinfo=tz)

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(options, "datetime", Noon)
        folders = [new_folder("quick") for _ in range(3)]
        assert [folder.name for folder in folders] == ["quick-20260102-120000", "quick-20260102-120000-2", "quick-20260102-120000-3"]
        assert all(folder.is_dir() and folder.parent.name == "runs" for folder in folders)

    @pytest.mark.parametrize("name", ["learn-my_task:Parity", "../../elsewhere", "a b\nc", "x" * 400])
    def test_is_below_runs_whatever_the_name(self, monkeypatch, tmp_path, name):
        monkeypatch.chdir(tmp_path)
        folder = new_folder(name)
        assert folder.resolve().parent == tmp_path / "runs"
        assert re.fullmatch(r"[\w.-]+", folder.name)
