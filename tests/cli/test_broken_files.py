"""Every command that reads results names the file and line that is broken, and says what to do.

A file without any result ends the command with exit code 2. A broken line among others costs that line.
"""

import json
import warnings

import pytest

from mann_bench.cli.console import warnings_as_sentences
from mann_bench.data.errors import StorageWarning
from tests.support.results import make_result

GOOD = make_result().to_line()
NEWER = json.dumps({**json.loads(GOOD), "schema": 2})
BAD_FIELD = json.dumps({**json.loads(GOOD), "wall_s": "long"})
LATER_FIELD = json.dumps({**json.loads(GOOD), "colour": "blue"})
BROKEN = {
    "empty": (b"", "line 1: expected at least one finished case, got an empty file"),
    "half-written-only-line": (GOOD[:99].encode(), "line 1: expected at least one finished case, got a half-written first line"),
    "binary": (b"\x7fELF\xff\xfe\n", "line 1: expected one JSON object"),
    "newer-schema": (f"{GOOD}\n{NEWER}\n".encode(), "line 2: expected schema <= 1, got 2; a newer mann-bench wrote this"),
    "foreign-object": (b'{"epoch": 1, "loss": 0.5}\n', "line 1: expected a mann-bench result with a schema number"),
    "wrong-type": (f"{BAD_FIELD}\n".encode(), "line 1: wall_s: Input should be a valid number"),
    "unknown-field": (f"{LATER_FIELD}\n".encode(), "line 1: colour: Extra inputs are not permitted"),
}
LEFT_OUT = {
    "half-written": (GOOD[:99], "expected one JSON object"),
    "blank": ("", "expected one JSON object"),
    "no time": (GOOD.replace('"median":10.0', '"median":NaN'), "time.pass_ms.median: Input should be a finite number"),
    "null": (GOOD.replace('"wall_s":1.0', '"wall_s":null'), "wall_s: Input should be a valid number"),
}
RUN_JSON = {
    "half-written": ('{"suite": "qui', "run.json: expected JSON"),
    "foreign": ("[1, 2]", "run.json, line 1: expected what `mann-bench run` writes"),
    "newer": ('{"schema": 7}', "run.json: expected schema <= 1, got 7; a newer mann-bench"),
}


def error_of(call, *arguments):
    done = call(*arguments)
    assert done.returncode == 2
    return done.stderr


@pytest.mark.parametrize("command", ["report", "claims", "compare"])
@pytest.mark.parametrize("kind", BROKEN)
def test_results(call, tmp_path, command, kind):
    content, message = BROKEN[kind]
    (tmp_path / "results.jsonl").write_bytes(content)
    error = error_of(call, command, *[tmp_path] * (2 if command == "compare" else 1))
    assert f"{tmp_path / 'results.jsonl'}, {message}" in error


@pytest.mark.parametrize("command", ["report", "claims", "compare"])
def test_a_broken_line_among_others_costs_that_line(call, tmp_path, command):
    lines = [GOOD, *(line for line, _ in LEFT_OUT.values()), GOOD]
    (tmp_path / "results.jsonl").write_text("".join(f"{line}\n" for line in lines))
    with pytest.warns(StorageWarning) as warned:
        done = call(command, *[tmp_path] * (2 if command == "compare" else 1))
    assert done.returncode == 0
    sentences = {str(warning.message) for warning in warned}
    for number, (_, message) in enumerate(LEFT_OUT.values(), 2):
        expected = f"{tmp_path / 'results.jsonl'}, line {number}: {message}"
        assert sum(sentence.startswith(expected) for sentence in sentences) == 1


def test_warnings_of_a_folder_are_printed_as_sentences():
    with warnings_as_sentences():
        assert warnings.formatwarning("a line is left out", StorageWarning, "store.py", 3) == "warning: a line is left out\n"
        assert "store.py:3: UserWarning" in warnings.formatwarning("something else", UserWarning, "store.py", 3)
    assert "store.py:3" in warnings.formatwarning("a line is left out", StorageWarning, "store.py", 3)


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize("kind", RUN_JSON)
def test_run_json(call, tmp_path, command, kind):
    content, message = RUN_JSON[kind]
    (tmp_path / "results.jsonl").write_text(GOOD + "\n")
    (tmp_path / "run.json").write_text(content)
    error = error_of(call, command, *[tmp_path] * (2 if command == "compare" else 1))
    assert f"{tmp_path}/{message}" in error


def test_a_torn_last_line_loses_that_case_only(call, tmp_path):
    (tmp_path / "results.jsonl").write_text(GOOD + "\n" + GOOD[:99])
    done = call("compare", tmp_path, tmp_path)
    assert done.returncode == 0
    assert "1 cases:" in done.stdout


def test_usage_of_compare_and_claims(call, tmp_path):
    assert "for two git refs add --suite" in error_of(call, "compare", "main", "HEAD")
    assert "expected a git ref" in error_of(call, "compare", "no-such-ref", "HEAD", "--suite", "quick")
    assert "--threshold: expected a percentage" in error_of(call, "compare", "a", "b", "--threshold", "5")
    assert "--fail-on: expected slower:5%" in error_of(call, "compare", "a", "b", "--fail-on", "hotter:5%")
    assert "expected a run folder" in error_of(call, "claims", tmp_path / "nowhere")
