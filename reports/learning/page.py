"""The learning report: sentences first, then for each experiment its plots and tables. One HTML file, Markdown, CSV, SVG and PNG."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mann_bench.data.text import one_line
from mann_bench.reports.data.frame import environments, write_csv
from mann_bench.reports.html.page import environment_lines, save_plots, write_page
from mann_bench.reports.learning.experiments import Experiment, load_experiments
from mann_bench.reports.learning.plots import draw_all
from mann_bench.reports.learning.sentences import coverage, sentences
from mann_bench.reports.learning.studies import load_studies
from mann_bench.reports.learning.study_section import study_sentences, study_table
from mann_bench.reports.learning.tables import run_table, tables_of, unfinished_table


def write_learning_page(experiments: Sequence[Experiment], runs: Sequence[Path], out: Path) -> Path:
    """Write learning.html, learning.md, runs.csv, curves.csv, evaluations.csv and plots/ into `out`; return the path of the HTML page.

    Args:
        runs: the folders of the experiments; their environments are shown.
    """
    out.mkdir(parents=True, exist_ok=True)  # where there is nothing to plot
    studies, choosing = load_studies(runs), load_experiments(runs, choosing=True)
    shown_environments = [environment_lines(run) for run in environments(runs)]
    sections = []
    for number, experiment in enumerate(experiments):
        suffix = f"-{number}" if len(experiments) > 1 else ""
        figures = save_plots(draw_all(experiment), out, where=experiment.title, suffix=suffix)
        lines, tables = sentences(experiment), tables_of(experiment)
        sections.append({"title": experiment.title, "sentences": lines, "figures": figures, "tables": tables})
    for name, frame in frames([*experiments, *choosing]).items():
        write_csv(frame, out / f"{name}.csv")
    context = {
        "coverage": coverage([*experiments, *choosing]),
        "studies": [{"title": one_line(study.record.name), "sentences": study_sentences(study)} for study in studies],
        "sections": sections,
        "tables": [
            *(table for table in map(study_table, studies) if table.rows),
            *(table for table in (unfinished_table([*experiments, *choosing]), run_table([*experiments, *choosing])) if table.rows),
        ],
        "environments": shown_environments,
    }
    write_page(out / "learning.md", context)
    return write_page(out / "learning.html", context)


def frames(experiments: Sequence[Experiment]) -> dict[str, pd.DataFrame]:
    """Return everything stored as data frames: `runs`, `curves` (one row a point) and `evaluations` (one row an error)."""
    rows: dict[str, list[dict[str, object]]] = {"runs": [], "curves": [], "evaluations": []}
    for title, curve in ((experiment.title, curve) for experiment in experiments for curve in experiment.curves):
        for run in curve.runs:
            key = {"case_id": run.case_id, "section": title, "task": run.case.task, "name": curve.name, "seed": run.case.seed}
            outcome = run.model_dump(exclude={"case", "backend", "curve", "evaluations", "schema_", "case_id"})
            rows["runs"].append(key | run.case.model_dump(exclude={"task", "seed"}) | outcome)
            rows["curves"] += [key | point.model_dump() for point in run.curve]
            rows["evaluations"] += [key | evaluation.model_dump() for evaluation in run.evaluations]
    return {name: pd.DataFrame(parts) for name, parts in rows.items() if parts}
