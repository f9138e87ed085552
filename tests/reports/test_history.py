"""The history over commits: what asv writes is read, and shown on a page without a network."""

import json
import math

import pytest
from asv.results import Results

from mann_bench.data.errors import UsageError
from mann_bench.reports.history import load_history, write_history
from mann_bench.reports.site import write_site
from tests.support.browser import CHROMIUM, EVERY_CHART, use_page_at
from tests.support.pages import outside_urls
from tests.support.results import make_result

NAME, CASES = "points.Steps.time_step", ["'sam 16k'", "'ntm 1k'", "'<b>'"]


PEAK = "points.Steps.track_peak"


def store(folder, commit, day, values, intervals=True):
    """Store values as asv does: a result of a commit, made on this day of January 2026."""
    dates = 1767225600000 + day * 86_400_000
    results = Results({"machine": "abacus <fast>"}, {}, commit, dates, "3.11", "env", {})
    stats = [{"ci_99_a": 0.9 * value, "ci_99_b": 1.1 * value} if intervals else None for value in values]
    results._results[NAME], results._benchmark_params[NAME], results._stats[NAME] = values, [CASES], stats
    for known in (results._benchmark_version, results._started_at, results._duration, results._samples, results._profiles):
        known[NAME] = known[PEAK] = None
    results._results[PEAK], results._benchmark_params[PEAK], results._stats[PEAK] = [1024.0], [["'sam 16k'"]], [None]
    results._filename = f"abacus/{commit[:8]}-env.json"
    results.save(str(folder))


@pytest.fixture
def stored(tmp_path):
    folder = tmp_path / "results"
    (folder / "abacus").mkdir(parents=True)
    (folder / "benchmarks.json").write_text(
        json.dumps({NAME: {"unit": "milliseconds", "params": [CASES]}, PEAK: {"unit": "bytes"}, "version": 2})
    )
    (folder / "abacus" / "machine.json").write_text(json.dumps({"machine": "abacus <fast>", "version": 1}))
    store(folder, "b" * 40, 5, [2.0, math.nan, 3.0])
    store(folder, "a" * 40, 1, [1.0, 4.0, None], intervals=False)
    return folder


def test_values_are_read_by_date_and_what_failed_has_none(stored):
    history = load_history(stored)
    assert (
        list(history.loc[history["benchmark"] == "track_peak", ["case", "unit", "value"]].itertuples(index=False, name=None))
        == [("sam 16k", "bytes", 1024.0)] * 2
    )
    history = history[history["benchmark"] == "time_step"]
    assert list(zip(history["case"], history["commit"], history["value"], history["low"], strict=True)) == [
        ("sam 16k", "aaaaaaaa", 1.0, 1.0),
        ("ntm 1k", "aaaaaaaa", 4.0, 4.0),
        ("sam 16k", "bbbbbbbb", 2.0, pytest.approx(1.8)),
        ("<b>", "bbbbbbbb", 3.0, pytest.approx(2.7)),
    ]
    assert set(history["unit"]) == {"milliseconds"}
    assert str(history["date"].iloc[0]) == "2026-01-02 00:00:00"


def test_the_page_needs_no_network_and_escapes_names(stored, tmp_path):
    page = write_history(stored, tmp_path).read_text()
    assert outside_urls(page) == []
    assert "default-src 'none'" in page
    assert "<b>" not in page
    assert "2x aaaaaaaa" in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_page_in_a_browser(stored, tmp_path):
    faint = """
        const clear = [...charts[0].querySelectorAll(".mark-symbol.role-mark path")].filter(point => point.getAttribute("opacity") > 0.5);
        say("CLEAR", clear.length);
    """
    for seen in use_page_at(write_history(stored, tmp_path), EVERY_CHART + faint, (420, 1400)):
        assert seen["DRAWN"] == ["history-0", "history-1"]
        assert (all(seen["MARKS"]), seen["TIPS"], seen["CSV"]) == (True, 2, [5, 3])
        assert seen["CLEAR"] == 2  # of one case, whose name was clicked
        assert (seen["WIDE"], seen["UNNAMED"], seen["SORTED"]) == (0, 0, "ascending")


def test_a_site_links_the_history(stored, tmp_path):
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "results.jsonl").write_text("".join(make_result(slots=n).to_line() + "\n" for n in (64, 256)))
    index, _ = write_site(tmp_path / "runs", tmp_path / "site", history=stored)
    assert '<a href="history.html">' in index.read_text()
    assert (tmp_path / "site" / "history.html").is_file()


def test_folders_and_files_that_are_no_history(stored, tmp_path):
    with pytest.raises(UsageError, match=r"--history: expected a folder of asv's results"):
        load_history(tmp_path)
    broken = stored / "abacus" / "cccccccc-env.json"
    for text, message in (("{", "expected JSON as asv writes it"), ("[]", "expected a JSON object"), ("{}", "expected what asv writes")):
        broken.write_text(text)
        with pytest.raises(UsageError, match=f"cccccccc-env.json: {message}"):
            load_history(stored)
    for path in stored.glob("abacus/*.json"):
        path.unlink()
    with pytest.raises(UsageError, match="expected measured values, found none"):
        load_history(stored)
