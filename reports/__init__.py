"""What is concluded from stored results: fits, ratios, plots, and the page that shows them. Nothing is measured here."""

from mann_bench.reports.page import write_report

__all__ = ["write_report"]
