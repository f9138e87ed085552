"""The scaling report: sentences first, then plots, tables, environment. One HTML file, Markdown, CSV, SVG and PNG."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mann_bench.reports.data.frame import environments, write_csv
from mann_bench.reports.data.quantity import PASS, PEAK, TAPE, TIME, Quantity
from mann_bench.reports.html.interactive import can_draw
from mann_bench.reports.html.page import Link, Plot, environment_lines, machine_line, save_plots, write_page
from mann_bench.reports.html.plots import colors_of
from mann_bench.reports.html.table import Table, shorten
from mann_bench.reports.scaling.analysis import Analysis
from mann_bench.reports.scaling.sentences import coverage, headline, sentences
from mann_bench.reports.scaling.slots_plots import draw_quantity, draw_ratios, draw_survival
from mann_bench.reports.scaling.tables import summary, tables
from mann_bench.reports.scaling.tradeoff_plots import draw_front, draw_recall

if TYPE_CHECKING:
    from mann_bench.reports.scaling.chart import Chart

MOST_PLOTS = 4  # of one setting; the interactive charts show and save every other


def write_scaling_page(
    analysis: Analysis, runs: Sequence[Path], out: Path, first_tables: Sequence[Table] = (), links: Sequence[Link] = ()
) -> Path:
    """Write report.html, report.md, results.csv and plots/ into `out`; return the path of the HTML page.

    Args:
        runs: the folders that were analysed; their environments are shown.
        first_tables: shown before the tables of the analysis.
        links: other pages about these runs.
    """
    named = environments(runs)
    shown_environments = [environment_lines(run) for run in named]
    colors = colors_of(analysis.frame)
    figures = save_plots(islice(draw_all(analysis, analysis.main_setting, colors), MOST_PLOTS), out, where=analysis.main_setting)
    write_csv(analysis.frame.drop(columns=["setting"]), out / "results.csv")
    context = {
        "headline": headline(analysis),
        "links": links,
        "machine": " ".join(machine_line(run) for run in named),
        "chart": _chart(analysis, colors),
        "baseline": analysis.baseline,
        "verdicts": {setting: sentences(analysis, setting) for setting in analysis.settings},
        "summaries": {setting: summary(analysis, setting) for setting in analysis.settings},
        "coverage": coverage(analysis),
        "figures": figures,
        "tables": shorten([table for table in (*first_tables, *tables(analysis)) if table.rows], out),
        "environments": shown_environments,
    }
    write_page(out / "report.md", context)
    return write_page(out / "report.html", context)


def _chart(analysis: Analysis, colors: Mapping[str, str]) -> "Chart | None":
    """The interactive charts; None where the packages that make them are not installed, as on a machine that only measures."""
    if not can_draw():
        return None
    from mann_bench.reports.scaling.chart import make_chart

    return make_chart(analysis.frame, analysis.fits, colors, analysis.main_setting)


def draw_all(analysis: Analysis, setting: str, colors: Mapping[str, str]) -> Iterator[Plot]:
    """Draw the plots of a setting that have something to show, the most telling first."""
    frame = analysis.frame
    measured = frame[(frame["setting"] == setting) & (frame["status"] == "ok")]

    def against_slots(*quantities: Quantity) -> Iterator[Plot]:
        for quantity in quantities:
            yield Plot(quantity.key, quantity.title, draw_quantity(frame, quantity, analysis.fits[quantity.key], setting, colors))

    if len(measured):
        yield from against_slots(TAPE, TIME)
    ratios = [ratio for ratio in analysis.ratios if ratio.setting == setting]
    if ratios:
        yield Plot("times_faster", "Times faster than the twin", draw_ratios(ratios, setting, "time", colors))
    recall = draw_recall(frame, setting, colors)
    if recall is not None:
        yield Plot("recall", "Recall against time", recall)
    if (frame.loc[frame["setting"] == setting, "status"] != "ok").any():
        yield Plot("survival", "How far each curve got", draw_survival(frame, setting, colors))
    if any(ratio.tape_ratio is not None for ratio in ratios):
        yield Plot("times_smaller", "Times less memory a step", draw_ratios(ratios, setting, "memory", colors))
    fronts = [(len(front.rows) + len(front.beaten), front) for front in analysis.fronts if front.setting == setting]
    if fronts:  # draw the largest N at which at least half of the curves ran
        most = max(curves for curves, _ in fronts)
        front = max((front for curves, front in fronts if 2 * curves >= most), key=lambda front: front.slots)
        yield Plot("front", "Time against memory", draw_front(front, frame, colors))
    if len(measured):
        yield from against_slots(PASS, PEAK)
