"""The page of the claims: both numbers of each on one axis of its unit, what has no place there, and whatever a run may hold."""

import dataclasses
import math

import pytest

from mann_bench.reports.claims.charts import make_charts
from mann_bench.reports.claims.claim import ClaimVerdict, load_claims
from mann_bench.reports.claims.page import headline, write_claims_page
from mann_bench.reports.html.rows import ticks_in
from tests.reports.test_compare import write
from tests.support.browser import CHROMIUM, EVERY_CHART, use_page_at
from tests.support.results import make_result

EVIL = "<script>alert(1)</script>"
CLAIMS = {claim.id: claim for claim in load_claims()}


def judged(name, value=None, verdict="exceeded", **fields):
    return ClaimVerdict(CLAIMS[name], verdict, value, **fields)


SOME = [
    judged("time-ann", 4000.0, low=3900.0, high=4100.0, how="N 1M; run a"),
    judged("time-sam", 9.0, "not reproduced", how="T 1, run a"),
    judged("time-sam", 0.5, how="T 10, run a"),
    judged("memory-sam", 2.0**20),
    judged("time-order", None, "not decided", order="O(1)"),
    judged("memory-ratio", None, "not run", remarks=("no case",)),
]


def test_each_unit_has_a_chart_of_its_own():
    charts = {chart.key: [(row["paper"], row["value"]) for row in chart.rows] for chart in make_charts(SOME)}
    assert charts == {
        "claims-times": [(1600, 4000)],
        "claims-ms": [(7, 9), (7, 0.5)],
        "claims-bytes": [(CLAIMS["memory-sam"].paper, 2**20)],
    }


def test_two_verdicts_about_a_claim_are_told_apart_by_what_differs():
    rows = next(chart.rows for chart in make_charts(SOME) if chart.key == "claims-ms")
    assert [row["name"].removeprefix(CLAIMS["time-sam"].says) for row in rows] == [" (T 1)", " (T 10)"]


@pytest.mark.parametrize("value", [0.0, -5.0, math.nan, math.inf])
def test_what_a_logarithmic_axis_does_not_have_is_named(value):
    chart = make_charts([judged("time-sam", value), judged("time-sam", 1.0)])[0]
    assert [row["value"] for row in chart.rows] == [1.0]
    assert "has no place on a logarithmic axis: A forward and backward step" in chart.note
    assert make_charts([judged("time-sam", value)]) == []


def test_ticks_are_few_and_within_the_axis():
    assert ticks_in(30, 600) == [50, 100, 200, 500]
    assert ticks_in(0.5, 1e6) == [1, 10, 100, 1e3, 1e4, 1e5, 1e6]
    assert ticks_in(2.0**20, 2.0**26, 2) == [2.0**power for power in range(20, 27)]


def test_headline_counts_verdicts():
    assert headline(SOME) == "5 claims judged: 3 exceeded, 1 not decided, 1 not reproduced; 1 claims not run."
    assert headline(SOME[-1:]) == "No case of these runs is in a set-up that a claim is about."


def test_names_with_html_give_a_page(tmp_path):
    run = write(tmp_path / "run", [make_result()], cpu=EVIL)
    verdicts = [dataclasses.replace(verdict, how=EVIL, remarks=(EVIL,)) for verdict in SOME]
    text = write_claims_page(verdicts, [run], tmp_path / "out").read_text()
    assert EVIL not in text
    assert "&lt;script" in text
    assert "Claims not run" in text


def test_the_command_writes_the_page_that_it_is_asked_for(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a", [make_result()])
    assert "page:" not in call("claims", "a").stdout
    done = call("claims", "a", "--out", "page")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "page: page/claims.html")
    assert "There is no pair of numbers to draw" in (tmp_path / "page" / "claims.html").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_claims_in_a_browser(tmp_path):
    run = write(tmp_path / "run", [make_result()])
    for seen in use_page_at(write_claims_page(SOME, [run], tmp_path / "out"), EVERY_CHART, (420, 1400)):
        assert (seen["DRAWN"], seen["TIPS"]) == (["claims-times", "claims-ms", "claims-bytes"], 3)
        assert all(seen["MARKS"])
        assert (seen["WIDE"], seen["UNNAMED"], seen["SORTED"]) == (0, 0, "ascending")
