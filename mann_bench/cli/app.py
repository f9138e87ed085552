"""The command line.

    mann-bench run quick                      sweep, measure, store; ends with the folder and the next command
    mann-bench run my.toml --models sam,ntm --slots 1k,64k --out runs/mine
    mann-bench run quick --out runs/mine --resume
    mann-bench plan scaling                   the cases, predicted bytes and time
    mann-bench list models|suites|studies
    mann-bench doctor                         what this machine can do
    mann-bench doctor --selftest              its ceilings, and whether planted faults are found
    mann-bench largest sam ntm --memory 4G --seconds 60   the largest N that fits, predicted and measured
    mann-bench profile sam ntm --slots 64k --steps 100   time and memory of every step and phase, as one page, CSV and traces
    mann-bench learn toy                      a study: each model with its best rate, over seeds; or one task, as `learn copy`
    mann-bench report runs/mine               one HTML page, Markdown, CSV, plots
    mann-bench claims runs/paper              the paper's claims against a run of suite paper
    mann-bench compare runs/old runs/new      each case: FASTER, SLOWER, SAME or INCONCLUSIVE
    mann-bench compare main . --suite quick   the same for two states of the code, run side by side
    mann-bench build-kernels --arch sm_90 --out cubins   GPU kernels for a machine without a compiler; needs no GPU

Sizes are written as people write them: 64k = 64 * 2^10, 1M = 2^20. Exit code 0: done; 1: something measured failed; 2: bad usage.
"""

import functools
import sys
from collections.abc import Callable

import typer

from mann_bench.cli.build_kernels import build_kernels
from mann_bench.cli.claims import claims
from mann_bench.cli.compare import compare
from mann_bench.cli.console import tell, warnings_as_sentences
from mann_bench.cli.doctor import doctor
from mann_bench.cli.largest import largest
from mann_bench.cli.learn import learn
from mann_bench.cli.list import list_
from mann_bench.cli.options import expand
from mann_bench.cli.os_errors import explain, is_usage
from mann_bench.cli.plan import plan
from mann_bench.cli.profile import profile
from mann_bench.cli.report import report
from mann_bench.cli.run import run
from mann_bench.cli.site import site
from mann_bench.cli.stopping import Stopped, stopped_by_signals
from mann_bench.cli.streams import lasting_streams, open_closed_streams
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
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(__doc__ or "").replace("\n", "\n\n", 1),
    rich_markup_mode=None,
)
for command in (run, plan, list_, doctor, report, site, compare, claims, profile, largest, learn, build_kernels):
    app.command(command.__name__.rstrip("_").replace("_", "-"))(told(expand(command)))


def main() -> None:
    """Run the command line; a signal to end it becomes one sentence, and 128 and its number as exit code."""
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
