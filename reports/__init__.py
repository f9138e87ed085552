"""What is concluded from stored results: fits, ratios, plots, and the pages that show them. Nothing is measured here."""

from pathlib import Path

from mann_bench.reports.learning_page import write_learning_report
from mann_bench.reports.page import write_report
from mann_bench.suites.learning.record import LearningResult

__all__ = ["write_learning_report", "write_report", "write_reports"]


def write_reports(runs: list[Path], out: Path) -> list[Path]:
    """The page of the measurements among the folders, and that of the training runs, where there are any; returns their paths."""
    learned = [run for run in runs if (run / LearningResult.FILE).is_file()]
    measured = [run for run in runs if run not in learned or (run / "results.jsonl").is_file()]
    pages = [write_report(measured, out)] if measured else []
    return [*pages, write_learning_report(learned, out)] if learned else pages
