"""The page of a comparison: what changed most first, a ratio for each case that has one, and whatever a run may hold."""

import json
import math
import re

import pytest

from mann_bench.reports.compare.chart import LEAST_SPAN, MOST_ROWS, make_chart
from mann_bench.reports.compare.comparison import compare_results, compare_runs
from mann_bench.reports.compare.page import cases_table, headline, write_compare_page
from tests.reports.test_compare import timed, write
from tests.support.browser import CHROMIUM, EVERY_CHART, use_page_at
from tests.support.results import make_result

EVIL = "<script>alert(1)</script>"
MODELS = ("lstm", "ntm", "dam", "sam")
FACTORS = (1.0, 1.2, 1 / 1.3, 1.5)


def planted():
    before = [timed(model) for model in MODELS]
    return before, [timed(model, factor) for model, factor in zip(MODELS, FACTORS, strict=True)]


def test_headline_names_what_changed_most():
    cases = compare_results(*planted())[0]
    text = headline(cases, 0.05)
    assert re.match(r"B is slower in 2 of 4 cases, the most in sam N=64 train 1\.\d*x, ntm N=64 train 1\.\d*x\.", text)
    assert re.search(r"B is faster in 1 of 4 cases, the most in dam N=64 train 0\.\d*x\. Memory grew in no case\.", text)
    assert headline(cases[:1], 0.05).startswith("No case is known to have become slower or faster by more than 5%.")


def test_the_chart_is_sorted_and_has_the_verdicts_of_the_table():
    cases = compare_results(*planted())[0]
    rows = [row for row in make_chart(cases, 0.05).rows if row["quantity"] == "time"]
    assert [row["name"].split()[0] for row in rows] == ["sam", "ntm", "lstm", "dam"]
    assert [row["verdict"] for row in rows] == ["SLOWER", "SLOWER", "SAME", "FASTER"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert [cells[0].text.split()[0] for cells in cases_table(cases, 0.05).rows] == ["sam", "ntm", "lstm", "dam"]


def test_zero_bytes_have_no_ratio_but_a_row_of_the_table():
    results = [timed("sam")]
    memory = results[0].memory.model_copy(update={"tape_bytes": 0})
    none = [results[0].model_copy(update={"memory": memory})]
    cases = compare_results(none, results)[0]
    chart = make_chart(cases, 0.05)
    assert "tape_bytes" not in {row["quantity"] for row in chart.rows}
    assert "1 ratios do not exist" in chart.note
    assert "tape_bytes 0 -> " in cases_table(cases, 0.05).rows[0][7].text


def test_of_many_cases_the_most_changed_are_drawn():
    before = [make_result("sam", 64, steps=steps) for steps in range(1, MOST_ROWS + 60)]
    after = [make_result("sam", 64, steps=steps, ms=1.0 if steps > 1 else 3.0) for steps in range(1, MOST_ROWS + 60)]
    chart = make_chart(compare_results(before, after)[0], 0.05)
    times = [row for row in chart.rows if row["quantity"] == "time"]
    assert len(times) == MOST_ROWS
    assert times[0]["value"] == pytest.approx(3)
    assert f"The {MOST_ROWS} cases" in chart.note


def test_an_axis_is_never_so_narrow_that_nothing_looks_like_a_change():
    chart = make_chart(compare_results([make_result()], [make_result()])[0], 0.05)
    domains = [layer["encoding"]["x"]["scale"]["domain"] for layer in chart.specification["layer"] if "scale" in layer["encoding"]["x"]]
    assert all(domain == [1 / LEAST_SPAN, LEAST_SPAN] for domain in domains)


@pytest.mark.parametrize("ms", [0.0, math.inf, math.nan, 1.0])
def test_reasons_with_html_and_times_that_are_no_numbers_give_a_page(tmp_path, ms):
    one = write(tmp_path / "one", [make_result(), make_result("ntm")], cpu=EVIL)
    failed = make_result("ntm", status="error", reason=EVIL)
    other = write(tmp_path / f"other{EVIL.replace('/', '')}", [make_result(ms=1.0), failed], cpu=EVIL)
    comparison = compare_runs(one, other)
    sizes = {"peak_bytes": (ms, 1.0)}
    cases = [case if case.change is None else type(case)(**{**vars(case), "sizes": sizes}) for case in comparison.cases]
    page = write_compare_page(type(comparison)(cases, comparison.warnings), [one, other], 0.05, tmp_path / "out")
    text = page.read_text()
    assert EVIL not in text
    assert "B: &lt;script" in text
    assert "1 ran in A and no longer run" in text


def test_nothing_ran_on_either_side_gives_a_page(tmp_path):
    failed = [make_result(status="oom", reason="full")]
    one, other = (write(tmp_path / name, failed) for name in "ab")
    text = write_compare_page(compare_runs(one, other), [one, other], 0.05, tmp_path / "out").read_text()
    assert "There is no ratio to draw" in text


def test_the_command_writes_the_page_that_it_is_asked_for(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a", [make_result()])
    write(tmp_path / "b", [make_result()])
    assert "page:" not in call("compare", "a", "b").stdout
    done = call("compare", "a", "b", "--out", "page")
    assert done.returncode == 0
    assert "page: page/compare.html" in done.stdout
    assert json.loads(call("compare", "a", "b", "--json", "--out", "page").stdout)["cases"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_comparison_in_a_browser(tmp_path):
    before, after = planted()
    one, other = write(tmp_path / "one", before), write(tmp_path / "other", after)
    page = write_compare_page(compare_runs(one, other), [one, other], 0.05, tmp_path / "out")
    for seen in use_page_at(page, EVERY_CHART, (420, 1400)):
        assert (seen["DRAWN"], seen["TIPS"]) == (["forest"], 1)
        assert seen["MARKS"][0] >= 4
        assert (seen["WIDE"], seen["UNNAMED"], seen["SORTED"]) == (0, 0, "ascending")
