"""Results on disk: durable, torn lines dropped, foreign files told by file and line."""

import errno
import json
import os

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.data.store import RunFolder, load_results, load_run
from tests.support.results import make_result


def description(*results):
    return {"case_ids": [result.case_id for result in results], "suite": "made-up"}


def test_append_load_resume(tmp_path):
    first, second = make_result(slots=64), make_result(slots=128)
    run = tmp_path / "run"
    folder = RunFolder(run, description(first, second), resume=False)
    folder.append(first)
    folder.close()
    assert load_results(run) == [first]
    again = RunFolder(run, description(first, second), resume=True)
    assert again.finished == {first.case_id}
    again.append(second)
    again.close()
    assert load_results(run) == [first, second]
    assert load_run(run)["suite"] == "made-up"


def test_torn_last_line_is_dropped_and_overwritten(tmp_path):
    first, second = make_result(slots=64), make_result(slots=128)
    RunFolder(tmp_path / "run", description(first, second), resume=False).close()
    path = tmp_path / "run" / "results.jsonl"
    path.write_text(first.to_line() + "\n" + second.to_line()[:99])
    assert load_results(tmp_path / "run") == [first]
    folder = RunFolder(tmp_path / "run", description(first, second), resume=True)
    assert folder.finished == {first.case_id}
    folder.append(second)
    folder.close()
    assert load_results(tmp_path / "run") == [first, second]


def test_full_disk_leaves_whole_lines_only(tmp_path, monkeypatch):
    first, second = make_result(slots=64), make_result(slots=128)
    folder = RunFolder(tmp_path / "run", description(first, second), resume=False)
    folder.append(first)
    write = os.write

    def full(descriptor, data):
        if len(data) <= 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:50])

    with monkeypatch.context() as patch:
        patch.setattr(
            os, "write", lambda descriptor, data: full(descriptor, data) if len(data) > len(first.to_line()) - 60 else full(descriptor, b"")
        )
        with pytest.raises(OSError, match="No space left"):
            folder.append(second)
    assert (tmp_path / "run" / "results.jsonl").read_text() == first.to_line() + "\n"
    folder.append(second)
    folder.close()
    assert load_results(tmp_path / "run") == [first, second]


def test_folder_of_another_run(tmp_path):
    first, second = make_result(slots=64), make_result(slots=128)
    run = tmp_path / "run"
    folder = RunFolder(run, description(first), resume=False)
    with pytest.raises(UsageError, match="another mann-bench is writing"):
        RunFolder(run, description(first), resume=True)
    folder.close()
    with pytest.raises(UsageError, match="got one with another run; add --resume"):
        RunFolder(run, description(first), resume=False)
    with pytest.raises(UsageError, match="that run has 1 cases"):
        RunFolder(run, description(first, second), resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="other files"):
        RunFolder(other, description(first), resume=False)
    with pytest.raises(UsageError, match=r"expected a folder with run.json"):
        RunFolder(tmp_path / "new", description(first), resume=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2: expected one JSON object"),
        ("[1, 2]", "line 2: expected a mann-bench result with a schema"),
        (json.dumps({"epoch": 3}), "line 2: expected a mann-bench result"),
        (json.dumps({"schema": 99}), "line 2: expected schema <= 1, got 99; a newer mann-bench"),
        (json.dumps({"schema": 1, "case_id": "x"}), "line 2: status"),
    ],
)
def test_broken_files_are_named(tmp_path, line, message):
    (tmp_path / "results.jsonl").write_text(make_result().to_line() + "\n" + line + "\n")
    with pytest.raises(UsageError, match=message):
        load_results(tmp_path)


def test_empty_and_missing(tmp_path):
    with pytest.raises(UsageError, match=r"holding results.jsonl, got none"):
        load_results(tmp_path)
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(UsageError, match="at least one finished case"):
        load_results(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run.json: expected JSON"):
        load_run(tmp_path)
