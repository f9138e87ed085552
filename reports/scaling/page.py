"""The scaling report: sentences first, then plots, tables, environment. One HTML file, Markdown, CSV, and plots."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mann_bench.reports.data.axes import find_axis
from mann_bench.reports.data.frame import environments, write_csv
from mann_bench.reports.html.colors import colors_of
from mann_bench.reports.html.interactive import can_draw
from mann_bench.reports.html.page import Link, environment_lines, machine_line, write_page
from mann_bench.reports.html.plot_files import NO_FILES, PlotFiles, write_plots
from mann_bench.reports.html.table import Table, shorten
from mann_bench.reports.scaling.analysis import Analysis
from mann_bench.reports.scaling.figures import plots_of
from mann_bench.reports.scaling.multiples import all_multiples
from mann_bench.reports.scaling.sentences import coverage, headline, sentences
from mann_bench.reports.scaling.tables import summary, tables

if TYPE_CHECKING:
    from mann_bench.reports.scaling.chart import Chart

MOST_PLOTS = 4  # static ones; the interactive charts show and save every other


def write_scaling_page(
    analysis: Analysis,
    runs: Sequence[Path],
    out: Path,
    first_tables: Sequence[Table] = (),
    links: Sequence[Link] = (),
    x: str = "",
    files: PlotFiles = NO_FILES,
) -> Path:
    """Write report.html, report.md, results.csv and, if asked for, plots/ into `out`; return the path of the HTML page.

    Args:
        runs: the folders that were analysed; their environments are shown.
        first_tables: shown before the tables of the analysis.
        links: other pages about these runs.
        x: the field that plots have on their x axis, and that the charts begin with; see `find_axis`.
        files: which static plots are written.

    Raises:
        UsageError: the runs have one value of the field `x` only.
    """
    axis = find_axis(analysis.frame, x)
    named = environments(runs)
    shown_environments = [environment_lines(run) for run in named]
    colors = colors_of(analysis.frame)
    chart = _chart(analysis, colors, axis)
    multiples = islice(all_multiples(analysis, axis, colors), MOST_PLOTS)
    figures = write_plots(plots_of(multiples, files.columns), out, files, inline=chart is None)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(analysis.frame.drop(columns=["setting"]), out / "results.csv")
    context = {
        "headline": headline(analysis),
        "links": links,
        "machine": " ".join(machine_line(run) for run in named),
        "chart": chart,
        "baseline": analysis.baseline,
        "verdicts": {setting: sentences(analysis, setting) for setting in analysis.settings},
        "ordered": sorted(analysis.settings, key=lambda setting: setting != analysis.main_setting),  # what the charts begin with first
        "summaries": {setting: summary(analysis, setting) for setting in analysis.settings},
        "coverage": coverage(analysis),
        "figures": figures,
        "plotted": bool(files.formats),
        "tables": shorten([table for table in (*first_tables, *tables(analysis)) if table.rows], out),
        "environments": shown_environments,
    }
    write_page(out / "report.md", context)
    return write_page(out / "report.html", context)


def _chart(analysis: Analysis, colors: Mapping[str, str], axis: str) -> "Chart | None":
    """The interactive charts; None where the packages that make them are not installed, as on a machine that only measures."""
    if not can_draw():
        return None
    from mann_bench.reports.scaling.chart import make_chart

    return make_chart(analysis.frame, analysis.fits, colors, analysis.main_setting, axis)
