"""What is concluded from stored results: fits, ratios, plots, and the pages that show them. Nothing is measured here."""

from pathlib import Path

from mann_bench.learn.record import LEARNING
from mann_bench.reports.claims.learning import judge_learning
from mann_bench.reports.learning.experiments import load_experiments
from mann_bench.reports.learning.page import write_learning_report
from mann_bench.reports.scaling.page import write_report

__all__ = ["sorted_runs", "write_learning_report", "write_report", "write_reports"]


def write_reports(runs: list[Path], out: Path) -> list[Path]:
    """The page of the measurements among the folders, and that of the training runs, where there are any; returns their paths."""
    measured, trained = sorted_runs(runs)
    experiments = load_experiments(trained)
    pages = [write_report(measured, out, judge_learning(experiments))] if measured else []
    return [*pages, write_learning_report(trained, out, experiments)] if trained else pages


def sorted_runs(runs: list[Path]) -> tuple[list[Path], list[Path]]:
    """Folders of measurements, folders of training runs; a folder with both is in both, one with neither is of measurements."""
    trained = [run for run in runs if (run / LEARNING.file).is_file()]
    return [run for run in runs if run not in trained or (run / "results.jsonl").is_file()], trained
