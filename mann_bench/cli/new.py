"""`mann-bench new`: a commented start of a suite or a study."""

import os
import re
import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from mann_bench.data.errors import UsageError
from mann_bench.data.files import write_atomically
from mann_bench.data.formats import FOLDER, format_file
from mann_bench.data.suite import load_suite, suite_names
from mann_bench.learn.study import load_study, study_names


def new(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="the file to write; one that exists is never overwritten")],
    study: Annotated[bool, typer.Option("--study", help="a study of learning instead of a suite")] = False,
) -> None:
    """Write a commented start of a suite, or of a study: it runs as it is, and says where what can be changed is described."""
    if not str(file).isprintable():  # it stands in a comment of the file
        raise UsageError(f"new: expected a name that can be printed, got {str(file)!r}")
    if file.suffix != ".toml":
        raise UsageError(f"new: expected a FILE.toml, got {str(file)!r}; write {str(file) + '.toml'!r}")
    kind = "study" if study else "suite"
    name = re.sub(r"[^\w.-]+", "-", file.stem).strip(".-")[:100] or kind
    if name in (study_names() if study else suite_names()):
        name = f"my-{name}"  # the results of a suite of the package are not mixed up with its own
    text = resources.files("mann_bench.suites").joinpath(FOLDER, f"{kind}-start.toml").read_text()
    values = {"SCHEMA": format_file(kind).as_uri(), "FILE": shlex.quote(str(file)), "NAME": name}
    text = re.sub("SCHEMA|FILE|NAME", lambda placeholder: values[placeholder[0]], text)
    if os.path.lexists(file):
        raise UsageError(f"new: expected a file that does not exist yet, got {str(file)!r}; name another, or remove it")
    write_atomically(file, text)
    print(f"{file}: {summary(file, study=study)}")
    command = "learn" if study else "plan"
    print(f"next:    mann-bench {command} {shlex.quote(str(file))}")


def summary(file: Path, *, study: bool) -> str:
    """What a file holds, in words."""
    if not study:
        return f"a suite of {len(load_suite(str(file)).cases)} cases"
    choosing, reported = load_study(str(file)).run_counts()
    return f"a study of {choosing} runs that choose and {reported} that are reported"
