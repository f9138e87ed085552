"""The learning report: sentences first, then for each experiment its plots and tables. One HTML file, Markdown, CSV, and plots."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mann_bench.data.store import load_run
from mann_bench.data.text import one_line
from mann_bench.learn.record import furthest
from mann_bench.learn.under_way import UnderWay, load_stored, runs_under_way
from mann_bench.reports.data.frame import environments, write_csv
from mann_bench.reports.html.interactive import Interactive, can_draw, scripted
from mann_bench.reports.html.page import Link, environment_lines, write_page
from mann_bench.reports.html.plot_files import NO_FILES, PlotFiles, ShownPlot, write_plots
from mann_bench.reports.learning.experiments import Experiment, load_experiments
from mann_bench.reports.learning.headline import headline
from mann_bench.reports.learning.sentences import coverage, sentences, under_way_sentences
from mann_bench.reports.learning.studies import load_studies
from mann_bench.reports.learning.study_section import study_sentences, study_table
from mann_bench.reports.learning.tables import run_table, tables_of, under_way_table, unfinished_table


def write_learning_page(
    experiments: Sequence[Experiment], runs: Sequence[Path], out: Path, links: Sequence[Link] = (), files: PlotFiles = NO_FILES
) -> Path:
    """Write learning.html, learning.md, runs.csv, curves.csv and evaluations.csv into `out`, and plots/ if asked for; return the HTML page.

    Args:
        runs: the folders of the experiments; their environments, and their runs under way, are shown.
        links: other pages about these runs.
        files: which static plots are written.
    """
    out.mkdir(parents=True, exist_ok=True)  # where there is nothing to plot
    studies, choosing = load_studies(runs), load_experiments(runs, choosing=True)
    shown_environments = [environment_lines(run) for run in environments(runs)]
    sections, charts = [], []
    for number, experiment in enumerate(experiments):
        suffix = f"-{number}" if len(experiments) > 1 else ""
        of_section = _charts(experiment, number)
        charts += of_section
        figures = _figures(experiment, suffix, out, files)
        lines, tables = sentences(experiment), tables_of(experiment)
        shown = {"title": experiment.title, "headline": headline(experiment), "sentences": lines, "figures": figures, "tables": tables}
        sections.append({**shown, "charts": of_section})
    under_way, waiting, unreadable = _under_way(runs)
    going_on = _under_way_chart(under_way) if any(run.curve for run in under_way) and can_draw() else None
    charts += [going_on] if going_on is not None else []
    for name, frame in frames([*experiments, *choosing]).items():
        write_csv(frame, out / f"{name}.csv")
    context = {
        "coverage": coverage([*experiments, *choosing]),
        "under_way": under_way_sentences(under_way, waiting, unreadable),
        "under_way_chart": going_on,
        "links": links,
        "plotted": bool(files.formats),
        "scripted": scripted(charts),
        "studies": [{"title": one_line(study.record.name), "sentences": study_sentences(study)} for study in studies],
        "sections": sections,
        "tables": [
            *([under_way_table(under_way)] if under_way else []),
            *(table for table in map(study_table, studies) if table.rows),
            *(table for table in (unfinished_table([*experiments, *choosing]), run_table([*experiments, *choosing])) if table.rows),
        ],
        "environments": shown_environments,
    }
    write_page(out / "learning.md", context)
    return write_page(out / "learning.html", context)


def _charts(experiment: Experiment, number: int) -> list[Interactive]:
    if not can_draw():
        return []
    from mann_bench.reports.learning.charts import make_charts

    return make_charts(experiment, number)


def _figures(experiment: Experiment, suffix: str, out: Path, files: PlotFiles) -> list[ShownPlot]:
    if can_draw() and not files.formats:
        return []  # the charts show all, and what draws plots takes long to import
    from mann_bench.reports.learning.plots import plots_of

    return write_plots(plots_of(experiment, suffix), out, files, inline=not can_draw())


def _under_way_chart(runs: Sequence[UnderWay]) -> Interactive:
    from mann_bench.reports.learning.charts import under_way_chart

    return under_way_chart(runs)


def _under_way(folders: Sequence[Path]) -> tuple[list[UnderWay], int, list[str]]:
    """The unfinished runs of all folders that have a checkpoint, the number of those that are not begun, and unreadable checkpoints."""
    found: list[UnderWay] = []
    unreadable: list[str] = []
    waiting = 0
    for folder in folders:
        stored = furthest(load_stored(folder))
        runs, bad = runs_under_way(folder, stored)
        found += runs
        unreadable += bad
        description = load_run(folder)
        if "study" not in description:  # a study plans more runs than it makes: one of each candidate, of which it reports the best
            begun = {*stored, *(run.case.run_id for run in runs), *(name.removesuffix(".pt") for name in bad)}
            waiting += len(set(map(str, description.get("run_ids") or [])) - begun)
    return found, waiting, unreadable


def frames(experiments: Sequence[Experiment]) -> dict[str, pd.DataFrame]:
    """Return everything stored as data frames: `runs`, `curves` (one row a point) and `evaluations` (one row an error)."""
    rows: dict[str, list[dict[str, object]]] = {"runs": [], "curves": [], "evaluations": []}
    for title, curve in ((experiment.title, curve) for experiment in experiments for curve in experiment.curves):
        for run in curve.runs:
            key = {"case_id": run.case_id, "section": title, "task": run.case.task, "name": curve.name, "seed": run.case.seed}
            outcome = run.model_dump(exclude={"case", "backend", "curve", "evaluations", "schema_", "case_id"})
            rows["runs"].append(key | run.case.model_dump(exclude={"task", "seed"}) | {"options": str(run.case.options)} | outcome)
            rows["curves"] += [key | point.model_dump() for point in run.curve]
            rows["evaluations"] += [key | evaluation.model_dump() for evaluation in run.evaluations]
    return {name: pd.DataFrame(parts) for name, parts in rows.items() if parts}
