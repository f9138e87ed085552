"""The command line.

\b
Measure
  mann-bench new my.toml                 a suite to start from, or a --study
  mann-bench run quick                   sweep, measure, store
  mann-bench run my.toml --models sam,ntm --slots 1k,64k --out runs/mine
  mann-bench run quick --out runs/mine --resume
  mann-bench plan scaling                the cases, predicted bytes and time
  mann-bench profile sam ntm --steps 100
                                         time and memory of steps and phases
  mann-bench largest sam ntm --memory 4G --seconds 60
                                         the largest N, predicted and measured
  mann-bench learn toy                   a study: models with their best rates
  mann-bench learn copy                  a quick look at one task

\b
On several machines
  mann-bench plan scaling --hours 4      into how many shards
  mann-bench run quick --shard 1/3 --out shards/1
  mann-bench merge shards/* --out all    join the folders of shards
  mann-bench submit slurm quick --array 8 --time 4:00:00

\b
Conclude
  mann-bench report runs/mine            HTML page, Markdown, CSV, plots
  mann-bench claims runs/paper           the paper's claims against a run
  mann-bench compare runs/old runs/new   FASTER, SLOWER, SAME, INCONCLUSIVE
  mann-bench compare main . --suite quick
                                         two states of the code, side by side

\b
Look around
  mann-bench list models                 also options, suites, studies, tasks,
                                         indexes, ops, claims
  mann-bench doctor                      what this machine can do
  mann-bench doctor --selftest           are planted faults found here?
  mann-bench build-kernels --arch sm_90 --out cubins
                                         kernels for a GPU elsewhere

Sizes: 64k = 64 * 2^10, 1M = 2^20. Exit code 0: done; 1: something measured failed; 2: bad usage.
"""

import atexit
import functools
import gc
import sys
from collections.abc import Callable
from typing import Annotated

import typer

import mann_bench
from mann_bench.cli.build_kernels import build_kernels
from mann_bench.cli.claims import claims
from mann_bench.cli.compare import compare
from mann_bench.cli.console import tell, warnings_as_sentences
from mann_bench.cli.doctor import doctor
from mann_bench.cli.largest import largest
from mann_bench.cli.learn import learn
from mann_bench.cli.list import list_
from mann_bench.cli.merge import merge_
from mann_bench.cli.new import new
from mann_bench.cli.options import expand
from mann_bench.cli.os_errors import explain, is_usage
from mann_bench.cli.plan import plan
from mann_bench.cli.profile import profile
from mann_bench.cli.report import report
from mann_bench.cli.run import run
from mann_bench.cli.site import site
from mann_bench.cli.stopping import Stopped, stopped_by_signals
from mann_bench.cli.streams import lasting_streams, open_closed_streams
from mann_bench.cli.submit import submit
from mann_bench.data.errors import UsageError


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command end bad usage and whatever the system refuses with one sentence and an exit code, never with a traceback."""

    @functools.wraps(command)
    def telling(**values: object) -> None:
        try:
            command(**values)
        except UsageError as error:
            tell(f"error: {error}")
            raise typer.Exit(2) from None
        except OSError as error:
            tell(f"error: {explain(error)}")
            raise typer.Exit(2 if is_usage(error) else 1) from None

    return telling


app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=__doc__,
    rich_markup_mode=None,
)
for command in (new, run, plan, list_, doctor, report, site, merge_, submit, compare, claims, profile, largest, learn, build_kernels):
    app.command(command.__name__.rstrip("_").replace("_", "-"))(told(expand(command)))


def show_version(asked: bool) -> None:
    """Print the version and end the command."""
    if asked:
        print(f"mann-bench {mann_bench.__version__}")
        raise typer.Exit


@app.callback(help=__doc__)
def options(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Take the options that precede a command."""


def main() -> None:
    """Run the command line; a signal to end it becomes one sentence, and 128 and its number as exit code."""
    atexit.register(gc.freeze)  # the last look for garbage among all that torch keeps takes half a second, for nothing
    open_closed_streams()
    with lasting_streams() as output, warnings_as_sentences():
        sys.path.append("")  # so that `--model my_module:factory` finds a file in the working directory
        try:
            with stopped_by_signals():
                app()
        except Stopped as stopped:
            tell(f"stopped by {stopped.name}; nothing runs on. Call the same command to begin again")
            sys.exit(stopped.exit_code)
        except SystemExit as ended:
            if ended.code or output.failure is None:
                raise
            tell(f"error: {explain(output.failure)}")  # typer shows help without looking whether it arrives
            sys.exit(1)
