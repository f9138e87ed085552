"""The report: verdict first, then plots, tables, environment. One HTML file, Markdown, CSV, SVG and PNG, all from stored results."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from mann_bench import __version__
from mann_bench.data.store import write_atomically
from mann_bench.reports.claims.claims import Judged
from mann_bench.reports.data.quantity import PASS, PEAK, TAPE, TIME
from mann_bench.reports.html.page import environment_lines, templates
from mann_bench.reports.html.plots import save, svg
from mann_bench.reports.scaling import comparison_plots, plots
from mann_bench.reports.scaling.findings import Findings, conclude
from mann_bench.reports.scaling.tables import all_tables, summary
from mann_bench.reports.scaling.verdict import coverage, verdicts


def write_report(runs: list[Path], out: Path, learned: Mapping[str, list[Judged]] | None = None) -> Path:
    """Write report.html, report.md, results.csv and plots/ into `out`; returns the path of the page. `learned`: the claims about learning,
    judged (`judge_learning`).
    """
    findings = conclude(runs, learned)
    (out / "plots").mkdir(parents=True, exist_ok=True)
    figures: dict[str, list[dict[str, str]]] = {}
    for number, setting in enumerate(findings.settings):
        figures[setting] = []
        for key, title, figure in draw_all(findings, setting):
            stem = f"{key}-{number}" if len(findings.settings) > 1 else key
            save(figure, out / "plots" / stem)
            figures[setting].append({"title": f"{title}, {setting}", "svg": svg(figure), "file": f"plots/{stem}.png"})
    findings.frame.drop(columns=["setting"]).to_csv(out / "results.csv", index=False)
    context = {
        "version": __version__,
        "verdicts": verdicts(findings),
        "summaries": {setting: summary(findings, setting) for setting in findings.settings},
        "coverage": coverage(findings),
        "figures": figures,
        "tables": all_tables(findings),
        "environments": [environment_lines(entry) for entry in findings.environments],
    }
    write_atomically(out / "report.md", templates().get_template("report.md.j2").render(context))
    page = out / "report.html"
    write_atomically(page, templates().get_template("report.html.j2").render(context))
    return page


def draw_all(findings: Findings, setting: str) -> Iterator[tuple[str, str, Figure]]:
    """(file name, title, figure) of every plot of a setting that has something to show."""
    frame = findings.frame
    for quantity in (TAPE, TIME):
        yield quantity.key, quantity.title, plots.draw(frame, quantity, findings.fits[quantity.key], setting)
    if any(ratio.setting == setting for ratio in findings.ratios):
        yield "times_faster", "Times faster than the twin", comparison_plots.draw_ratios(findings.ratios, setting, "time")
        yield "times_smaller", "Times less memory a step", comparison_plots.draw_ratios(findings.ratios, setting, "memory")
    for quantity in (PASS, PEAK):
        yield quantity.key, quantity.title, plots.draw(frame, quantity, findings.fits[quantity.key], setting)
    here = [front for front in findings.fronts if front.setting == setting]
    if here:
        most = max(len(one.rows) + len(one.beaten) for one in here)
        front = max((one for one in here if 2 * (len(one.rows) + len(one.beaten)) >= most), key=lambda one: one.slots)
        yield "front", "Time against memory", comparison_plots.draw_front(front, frame)
    recall = comparison_plots.draw_recall(frame, setting)
    if recall is not None:
        yield "recall", "Recall against time", recall
    yield "survival", "How far each curve got", comparison_plots.draw_survival(frame, setting)
