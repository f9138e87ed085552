"""The learning page: verdict first, then for each task its plots and tables. One HTML file, Markdown, CSV, SVG and PNG."""

from pathlib import Path
from typing import Any

import pandas as pd

from mann_bench import __version__
from mann_bench.data.store import write_atomically
from mann_bench.reports.data.frame import environments
from mann_bench.reports.html.page import environment_lines, templates
from mann_bench.reports.html.plots import save, svg
from mann_bench.reports.learning import plots
from mann_bench.reports.learning.experiments import Experiment, load_experiments
from mann_bench.reports.learning.tables import runs, tables_of, unfinished
from mann_bench.reports.learning.verdict import coverage, sentences


def write_learning_report(folders: list[Path], out: Path, experiments: list[Experiment] | None = None) -> Path:
    """Write learning.html, learning.md, runs.csv, curves.csv, evaluations.csv and plots/ into `out`; returns the path of the page.
    `experiments`: those of the folders, where they are loaded already.
    """
    experiments = load_experiments(folders) if experiments is None else experiments
    (out / "plots").mkdir(parents=True, exist_ok=True)
    sections: list[dict[str, Any]] = []
    for number, experiment in enumerate(experiments):
        figures = []
        for key, title, figure in plots.draw_all(experiment):
            stem = f"{key}-{number}" if len(experiments) > 1 else key
            save(figure, out / "plots" / stem)
            figures.append({"title": f"{title}, {experiment.title}", "svg": svg(figure), "file": f"plots/{stem}.png"})
        said = {"title": experiment.title, "sentences": sentences(experiment)}
        sections.append({**said, "figures": figures, "tables": tables_of(experiment)})
    for name, frame in frames(experiments).items():
        frame.to_csv(out / f"{name}.csv", index=False)
    context = {
        "version": __version__,
        "coverage": coverage(experiments),
        "sections": sections,
        "tables": [table for table in (unfinished(experiments), runs(experiments)) if table.rows],
        "environments": [environment_lines(entry) for entry in environments(folders)],
    }
    write_atomically(out / "learning.md", templates().get_template("learning.md.j2").render(context))
    page = out / "learning.html"
    write_atomically(page, templates().get_template("learning.html.j2").render(context))
    return page


def frames(experiments: list[Experiment]) -> dict[str, pd.DataFrame]:
    """Everything stored, as tables: a line a run, a point of a curve, an error."""
    found: dict[str, list[dict[str, Any]]] = {"runs": [], "curves": [], "evaluations": []}
    named = [(curve.name, run) for experiment in experiments for curve in experiment.curves for run in curve.runs]
    for name, run in named:
        key = {"case_id": run.case_id, "task": run.case.task, "name": name, "seed": run.case.seed}
        kept = run.model_dump(exclude={"case", "ran", "curve", "evaluations", "schema_", "case_id"})
        found["runs"].append(key | run.case.model_dump(exclude={"task", "seed"}) | kept)
        found["curves"] += [key | point.model_dump() for point in run.curve]
        found["evaluations"] += [key | evaluation.model_dump() for evaluation in run.evaluations]
    return {name: pd.DataFrame(rows) for name, rows in found.items() if rows}
