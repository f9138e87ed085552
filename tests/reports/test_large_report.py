"""A page of many cases stays readable: one setting is drawn, so many rows are shown, and files hold the rest."""

import csv

import pytest

from mann_bench.reports.html import table as html_table
from mann_bench.reports.pages import write_report
from mann_bench.reports.scaling import page
from tests.support.results import make_result

FOUR = ["memory_per_step", "time", "times_faster", "times_smaller"]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write the report of so many settings of two curves and three sizes; returns its folder and what was drawn."""
    drawn: list[str] = []

    def write_none(plots, out, files, inline):
        drawn.extend(plot.key for plot in plots)
        return []

    monkeypatch.setattr(page, "write_plots", write_none)
    monkeypatch.setattr(html_table, "MOST_ROWS", 20)

    def write(settings):
        results = [
            make_result(model, slots, batch=batch) for batch in range(1, settings + 1) for model in ("sam", "ntm") for slots in (8, 16, 32)
        ]
        run = tmp_path / "run"
        run.mkdir()
        (run / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
        write_report([run], tmp_path / "out")
        return tmp_path / "out", drawn, results

    return write


def test_work_on_plots_and_rows_has_a_limit(written):
    out, drawn, results = written(20)
    assert drawn == FOUR
    html, markdown = (out / "report.html").read_text(), (out / "report.md").read_text()
    for text in (html, markdown):
        assert "The first 20 of 120 rows." in text
    assert html.count('<tr id="case-') == 20
    assert '<a href="tables/every-measured-case.csv">' in html
    rows = list(csv.DictReader((out / "tables" / "every-measured-case.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == [result.case_id for result in results]
    assert len(list(csv.DictReader((out / "results.csv").read_text().splitlines()))) == len(results)


def test_a_short_report_is_whole(written):
    out, drawn, results = written(3)
    assert drawn == FOUR
    html = (out / "report.html").read_text()
    assert html.count('<tr id="case-') == len(results)
    assert not (out / "tables" / "every-measured-case.csv").exists()
