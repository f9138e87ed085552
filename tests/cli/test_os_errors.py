"""An error of the operating system becomes one sentence with the file and a remedy, and no traceback."""

import errno
import os
import re
from pathlib import Path

import pytest
import typer

from mann_bench.cli import app as cli
from mann_bench.cli.console import stoppable, writing_to
from mann_bench.cli.os_errors import BAD_PATH
from mann_bench.data.errors import DISK_FULL
from tests.support.results import make_result

# For each command: valid arguments, and a function that it calls, which a test makes fail.
CALLS = {
    "run": (["run", "quick", "--out", "o"], "mann_bench.run.session.open_run"),
    "plan": (["plan", "quick"], "mann_bench.cli.options.load_suite"),
    "new": (["new", "o.toml"], "mann_bench.cli.new.write_atomically"),
    "list": (["list", "suites"], "mann_bench.cli.listings.suite_names"),
    "doctor": (["doctor"], "mann_bench.doctor.examine.examine"),
    "report": (["report", "a"], "mann_bench.reports.pages.write_reports"),
    "site": (["site", "a"], "mann_bench.reports.site.write_site"),
    "compare": (["compare", ".", "."], "mann_bench.reports.compare.comparison.compare_runs"),
    "claims": (["claims", "a"], "mann_bench.reports.pages.split_runs"),
    "profile": (["profile", "lstm", "--out", "o"], "mann_bench.run.profiling.profile_in_worker"),
    "largest": (["largest", "lstm", "--out", "o"], "mann_bench.run.session.search_and_store"),
    "build-kernels": (["build-kernels", "--arch", "sm_90", "--out", "o"], "mann_bench.kernels.native.cubin.compile_to_carry"),
    "merge": (["merge", "a", "--out", "o"], "mann_bench.cli.merge.merge"),
    "submit": (["submit", "slurm", "quick", "--dry-run"], "mann_bench.cli.options.load_suite"),
    "learn": (["learn", "copy", "--out", "o"], "mann_bench.learn.session.LearningSession"),
}
KINDS = [errno.EACCES, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG, errno.ENOSPC, errno.EIO, errno.EMFILE]


@pytest.mark.parametrize("command", [command.name for command in cli.app.registered_commands])
def test_every_command_reports_every_kind_of_error(call, monkeypatch, tmp_path, command):
    arguments, inner = CALLS[command]
    monkeypatch.chdir(tmp_path)
    for number in KINDS:

        def refuse(*_, number=number, **__):
            raise OSError(number, os.strerror(number), "some/file")

        monkeypatch.setattr(inner, refuse)
        code, _, error = call(*arguments)
        assert code == (2 if number in BAD_PATH else 1), error
        assert re.fullmatch(rf"error: some/file: {re.escape(os.strerror(number))}; .+\n", error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "folder.toml"], "folder.toml'"),
        (["run", "file/suite.toml"], "file/suite.toml"),
        (["run", "x" * 300 + ".toml"], "File name too long; give a shorter name"),
        (["run", "latin-1.toml"], "latin-1.toml: expected a text in UTF-8"),
        (["run", "quick", "--out", "file"], "file: Not a directory; name a folder"),
        (["run", "quick", "--out", "file/run"], "file/run: Not a directory; name a folder"),
        (["run", "quick", "--out", "/proc/run"], "/proc/run: No such file or directory; check the path"),
        (["report", "run/results.jsonl"], "expected the folder of a run, got the file 'run/results.jsonl'; its folder is 'run'"),
        (["run", "utf-16.toml"], "utf-16.toml: expected a text in UTF-8"),
        (["report", "run", "--out", "/proc/foo"], "/proc/foo: No such file or directory; check the path"),
        (["report", "run", "--out", "file"], "Not a directory; name a folder"),
        (["largest", "lstm", "--out", "file"], "file: Not a directory; name a folder"),
        (["profile", "lstm", "--out", "file"], "file: File exists; name another path"),
        (["learn", "copy", "--models", "lstm", "--out", "file"], "file: Not a directory; name a folder"),
    ],
)
def test_paths_of_the_wrong_kind(call, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("folder.toml").mkdir()
    Path("file").touch()
    Path("latin-1.toml").write_bytes('name = "é"'.encode("latin-1"))
    Path("utf-16.toml").write_bytes('name = "e"'.encode("utf-16"))
    Path("run").mkdir()
    Path("run", "results.jsonl").write_text(make_result().to_line() + "\n")
    code, _, error = call(*arguments)
    assert (code, error.count("\n")) == (2, 1), error
    assert message in error


@pytest.mark.parametrize("number", DISK_FULL)
def test_an_error_during_a_run_says_what_is_kept_and_how_to_resume(capsys, tmp_path, number):
    folder = tmp_path / "my run"
    with pytest.raises(typer.Exit) as exit_, stoppable(folder):
        raise OSError(number, os.strerror(number))
    assert exit_.value.exit_code == 1
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith(f"error: {folder}: {os.strerror(number)}; free some space")
    assert f"what finished is kept. Go on with the same command and: --out '{folder}' --resume" in error


def test_an_error_without_a_file_names_the_folder(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)), writing_to(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="other"), writing_to(tmp_path):
        raise OSError(errno.EACCES, "Permission denied", "other")
