"""Static plots as files beside a page: which of them are written, and what a page shows of each. Drawing takes most of a page's time, so
plots are drawn only where a file, or a page without interactive charts, needs them.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mann_bench.data.errors import UsageError
from mann_bench.data.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf", "tex")
WIDTHS = {1: 3.5, 2: 7.16}  # of a figure in inches, by the columns of a paper that it takes
UNDATED: dict[str, dict[str, None]] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}


@dataclass(frozen=True)
class PlotFiles:
    """Which static plots are written: `formats` of `FORMATS`, as wide as so many `columns` of a paper.

    `drawn`: without it pages are the same, but the files that they name are not written; for a check of the pages alone.

    Raises:
        UsageError: a format or a width that there is not.
    """

    formats: tuple[str, ...] = ()
    columns: int = 2
    drawn: bool = True

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            raise UsageError(f"--format: expected some of {', '.join(FORMATS)}, as png,pdf; got {', '.join(unknown)}")
        if self.columns not in WIDTHS:
            raise UsageError(f"--columns: expected 1 or 2, the columns of a paper that a plot is as wide as; got {self.columns}")


NO_FILES = PlotFiles()


class Plot(NamedTuple):
    """A figure that can be drawn.

    Attributes:
        key: the stem of its files.
        draw: draws it.
        style: the settings of matplotlib that it is saved with.
        latex: its numbers as a table; None if there is none.
    """

    key: str
    title: str
    draw: "Callable[[], Figure]"
    style: Callable[[], AbstractContextManager[None]]
    latex: Callable[[], str] | None = None


class ShownPlot(NamedTuple):
    """A plot as the templates show it: the `svg` element if it stands in the page; `file` is what Markdown shows, or links to."""

    key: str
    title: str
    svg: str
    file: str
    is_image: bool


def write_plots(plots: Iterable[Plot], out: Path, files: PlotFiles, *, inline: bool) -> list[ShownPlot]:
    """Write `out/plots/KEY.FORMAT` of each plot; return those that a page can show: none if no format was asked for and none is inline.

    Args:
        inline: whether the page itself shows the plots, as it does without interactive charts.
    """
    formats = files.formats
    if not formats and not inline:
        return []
    shown = []
    for plot in plots:
        kept = [name for name in formats if name != "tex" or plot.latex]
        svg = _write(plot, out / "plots" / plot.key, kept, inline) if files.drawn else ""
        best = next((name for name in FORMATS if name in kept), "")
        shown.append(ShownPlot(plot.key, plot.title, svg, f"plots/{plot.key}.{best}" if best else "", best in ("png", "svg")))
    return shown


def _write(plot: Plot, stem: Path, formats: Sequence[str], inline: bool) -> str:
    """Write the files of a plot; return its `<svg>` element if it is needed."""
    from mann_bench.reports.html.plots import svg_element, to_svg

    if formats:
        stem.parent.mkdir(parents=True, exist_ok=True)
    drawn = plot.draw() if inline or set(formats) - {"tex"} else None
    svg = to_svg(drawn) if drawn is not None and (inline or "svg" in formats) else ""
    for name in formats:
        path = stem.with_name(f"{stem.name}.{name}")
        if name == "svg":
            write_atomically(path, svg)
        elif name == "tex" and plot.latex is not None:
            write_atomically(path, plot.latex())
        elif drawn is not None:
            with plot.style():
                drawn.savefig(path, metadata=UNDATED[name])
    return svg_element(svg) if inline else ""
