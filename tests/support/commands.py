"""Commands called in the test's own process: what a process of its own would cost most is to import torch."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mann_bench.cli import app as cli

Call = Callable[..., "Done"]


class Done(NamedTuple):
    """How a command ended, by the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call the command line with arguments, which may be paths and numbers."""

    def call_command(*arguments: str | int | Path) -> Done:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["mann-bench", *map(str, arguments)])
            patch.setattr(sys, "path", [*sys.path])  # `main` adds to it
            with pytest.raises(SystemExit) as ended:
                cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Done(code or 0, *capsys.readouterr())

    return call_command
