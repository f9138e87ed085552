"""Results on disk: durable, with broken lines dropped and reported by file and line, one writer, and recorded conditions."""

import errno
import fcntl
import json
import os
import platform

import pytest

from mann_bench.data.errors import StorageWarning, UsageError
from mann_bench.data.store import RunFolder, load_results, load_run
from tests.support.results import make_result

FIRST, SECOND = make_result(slots=64), make_result(slots=128)


def description(*results, **facts):
    """`run.json` of a run that plans the cases of the results, on a machine of these facts."""
    facts = {"cpu": "abacus", "torch": "2.13.0", "git": {"commit": "abc", "dirty": False}, **facts}
    ids = [result.case_id for result in results or (FIRST, SECOND)]
    return {"case_ids": ids, "suite": "made-up", "started_at": "2026-01-01T00:00:00+00:00", "environment": facts}


def run_with(path, *lines):
    """A run folder of both cases whose file has these lines."""
    RunFolder(path, description(), resume=False).close()
    (path / "results.jsonl").write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines))
    return path


def test_append_load_resume(tmp_path):
    run = tmp_path / "run"
    folder = RunFolder(run, description(), resume=False)
    first = folder.append(FIRST)
    folder.close()
    assert first == FIRST.model_copy(update={"host": platform.node()})
    assert load_results(run) == [first]
    again = RunFolder(run, description(), resume=True)
    assert again.finished == {FIRST.case_id}
    second = again.append(SECOND)
    third = again.append(SECOND)
    again.close()
    assert load_results(run) == again.records == [first, second, third]
    assert [result.attempt for result in again.records] == [1, 1, 2]
    assert load_run(run)["suite"] == "made-up"


def test_torn_last_line_is_dropped_and_overwritten(tmp_path):
    run = run_with(tmp_path / "run", FIRST.to_line(), SECOND.to_line()[:99].encode())
    assert load_results(run) == [FIRST]
    folder = RunFolder(run, description(), resume=True)
    assert folder.finished == {FIRST.case_id}
    second = folder.append(SECOND)
    folder.close()
    assert load_results(run) == [FIRST, second]


def test_full_disk_leaves_whole_lines_only(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run", description(), resume=False)
    first = folder.append(FIRST)
    write = os.write
    sizes = []

    def full(file, data):
        sizes.append(len(data))
        if len(sizes) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:50])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            folder.append(SECOND)
    assert (tmp_path / "run" / "results.jsonl").read_text() == first.to_line() + "\n"
    second = folder.append(SECOND)
    folder.close()
    assert load_results(tmp_path / "run") == [first, second]
    assert second.attempt == 1


def test_folder_of_another_run(tmp_path):
    run = tmp_path / "run"
    folder = RunFolder(run, description(FIRST), resume=False)
    with pytest.raises(UsageError, match="another mann-bench is writing"):
        RunFolder(run, description(FIRST), resume=True)
    folder.close()
    with pytest.raises(UsageError, match="got one with another run; add --resume"):
        RunFolder(run, description(FIRST), resume=False)
    with pytest.raises(UsageError, match="that run has 1 cases"):
        RunFolder(run, description(FIRST, SECOND), resume=True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    for resume in (False, True):
        with pytest.raises(UsageError, match=r"other files without run\.json; name another"):
            RunFolder(other, description(FIRST), resume=resume)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match=r"expected a folder with run.json"):
        RunFolder(tmp_path / "new", description(FIRST), resume=True)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("left", [(), ("results.jsonl",), ("results.jsonl", "run.json.part"), (".lock", "run.json.part")])
def test_a_run_killed_before_its_description_was_written_starts_again(tmp_path, resume, left):
    for name in left:
        (tmp_path / name).touch()
    folder = RunFolder(tmp_path, description(), resume=resume)
    folder.append(FIRST)
    folder.close()
    assert load_run(tmp_path)["suite"] == "made-up"
    assert not list(tmp_path.glob("*.part"))


def test_a_run_killed_while_its_description_was_written_anew_leaves_nothing_once_it_goes_on(tmp_path):
    RunFolder(tmp_path, description(), resume=False).close()
    (tmp_path / "run.json.0a87cdaf.part").write_text("{")
    RunFolder(tmp_path, description(), resume=True).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.jsonl", "run.json"]


@pytest.mark.parametrize("resume", [False, True])
def test_after_a_full_disk_at_the_start_the_same_command_works(tmp_path, monkeypatch, resume):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(OSError, match="No space left on device"):
            RunFolder(tmp_path / "run", description(), resume=False)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["results.jsonl"]
    RunFolder(tmp_path / "run", description(), resume=resume).close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.warns(StorageWarning, match="has no locks .*: see to it that no other mann-bench writes there"):
        folder = RunFolder(tmp_path / "run", description(), resume=False)
    folder.append(FIRST)
    folder.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_second_writer_is_noticed_though_the_file_was_removed(tmp_path, replaced):
    folder = RunFolder(tmp_path / "run", description(), resume=False)
    folder.results_path.unlink()
    if replaced:
        RunFolder(tmp_path / "run", description(), resume=True).close()
    with pytest.raises(UsageError, match="expected the file that this run opened, got none or another"):
        folder.append(FIRST)
    folder.close()


BROKEN = {
    "no JSON": ("not json", "line 2: expected one JSON object, got b'not json"),
    "bytes": (b"\x7fELF\xff\xfe\n", "line 2: expected one JSON object"),
    "empty": ("", "line 2: expected one JSON object"),
    "list": ("[1, 2]", "line 2: expected a mann-bench result with a schema"),
    "foreign": (json.dumps({"epoch": 3}), "line 2: expected a mann-bench result"),
    "no status": (json.dumps({"schema": 1, "case_id": "x"}), "line 2: status"),
    "wrong type": (json.dumps({**json.loads(FIRST.to_line()), "wall_s": "long"}), "line 2: wall_s: Input should be a valid number"),
    "null": (json.dumps({**json.loads(FIRST.to_line()), "wall_s": None}), "line 2: wall_s: Input should be a valid number"),
    "no time": (FIRST.to_line().replace('"median":10.0', '"median":NaN'), "line 2: time.pass_ms.median: .*finite"),
    "no date": (FIRST.to_line().replace("2026-01-01", "2026-13-01"), "line 2: started_at: .*expected a date"),
    "deep": ("[" * 200_000, "line 2: expected one JSON object"),
    "deep object": ('{"schema": 1, "a": ' * 200_000, "line 2: expected one JSON object"),
    "long number": ('{"schema": ' + "9" * 5000 + "}", "line 2: expected one JSON object"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_costs_that_line(tmp_path, kind):
    line, message = BROKEN[kind]
    run = run_with(tmp_path / "run", FIRST.to_line(), line, FIRST.to_line())
    with pytest.warns(StorageWarning, match=f"results.jsonl, {message}"):
        assert load_results(run) == [FIRST, FIRST]
    with pytest.warns(StorageWarning, match=message):
        folder = RunFolder(run, description(), resume=True)
    assert folder.finished == {FIRST.case_id}
    folder.append(SECOND)  # the case of the broken line is measured again
    folder.close()
    assert (run / "results.jsonl").read_bytes().count(b"\n") == 4
    with pytest.warns(StorageWarning, match=message):
        assert len(load_results(run)) == 3


def test_a_file_of_broken_lines_is_an_error_and_can_be_resumed(tmp_path):
    run = run_with(tmp_path / "run", *["no"] * 9)
    with pytest.raises(UsageError, match="line 1: expected one JSON object"):
        load_results(run)
    with pytest.warns(StorageWarning) as warned:
        RunFolder(run, description(), resume=True).close()
    assert len(warned) == 6
    assert "further broken lines are not named" in str(warned[-1].message)


def test_a_newer_schema_is_an_error_of_the_file(tmp_path):
    run = run_with(tmp_path / "run", FIRST.to_line(), json.dumps({**json.loads(FIRST.to_line()), "schema": 99}))
    for read in (load_results, lambda run: RunFolder(run, description(), resume=True)):
        with pytest.raises(UsageError, match="line 2: expected schema <= 1, got 99; a newer mann-bench"):
            read(run)


def test_a_run_resumed_on_another_machine_records_both_conditions(tmp_path):
    run = tmp_path / "run"
    folder = RunFolder(run, description(), resume=False)
    folder.append(FIRST)
    folder.close()
    elsewhere = description(cpu="slide rule", torch="2.14.0", git={"commit": "def", "dirty": False})
    with pytest.warns(StorageWarning) as warned:
        RunFolder(run, elsewhere, resume=True).close()
    differing = "cpu: abacus and slide rule; torch: 2.13.0 and 2.14.0; git commit: abc and def"
    assert [str(warning.message) for warning in warned] == [
        f"{run}: goes on under other conditions than before ({differing}); each result says which are its own"
    ]
    assert "resumed" not in load_run(run)  # nothing was measured there
    with pytest.warns(StorageWarning):
        folder = RunFolder(run, elsewhere, resume=True)
    folder.append(SECOND)
    folder.append(SECOND)
    folder.close()
    assert [result.conditions for result in load_results(run)] == [0, 1, 1]
    assert load_run(run)["environment"]["cpu"] == "abacus"
    assert [part["environment"]["cpu"] for part in load_run(run)["resumed"]] == ["slide rule"]
    back = RunFolder(run, description(), resume=True)  # the first conditions again: nothing to tell
    assert back.append(SECOND).conditions == 0
    back.close()


@pytest.mark.parametrize("content", ["{", "[" * 200_000, '{"a": ' * 200_000, "\udcff"])
def test_a_description_that_is_not_json(tmp_path, content):
    (tmp_path / "run.json").write_text(content, errors="surrogateescape")
    with pytest.raises(UsageError, match=r"run.json: expected JSON"):
        load_run(tmp_path)


@pytest.mark.parametrize("content", ["[1]", '{"environment": 3}', '{"budget": []}', '{"resumed": {}}', '{"resumed": [3]}'])
def test_a_description_of_another_tool(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UsageError, match="got a foreign file"):
        load_run(tmp_path)


def test_empty_and_missing(tmp_path):
    with pytest.raises(UsageError, match=r"holding results.jsonl, got none"):
        load_results(tmp_path)
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(UsageError, match="at least one finished case"):
        load_results(tmp_path)
