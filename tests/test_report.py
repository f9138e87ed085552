"""The page: true to the results, whole whatever they are, safe, and the same twice."""

import csv
import re

import pytest

from mann_bench.errors import UsageError
from mann_bench.reports import write_report
from mann_bench.reports.page import conclude
from tests.results import make_result


@pytest.fixture
def run(tmp_path):
    def write(*results, name="run"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
        (folder / "run.json").write_text('{"suite": "made-up", "environment": {"cpu": "abacus <fast>", "gpus": [], "ram_bytes": 1024}}')
        return folder

    return write


def sweep(model, power, **changes):
    return [make_result(model, n, ms=n**power / 50, per_step=100.0 * n**power, **changes) for n in (64, 256, 1024, 4096)]


def test_verdicts_are_computed_from_the_results_file(run, tmp_path):
    folder = run(*sweep("sam", 0), *sweep("ntm", 1))
    fits = conclude([folder]).fits["memory_per_step"]
    exponents = {curve: fit.value for (_, curve), fit in fits.items()}
    assert exponents == pytest.approx({"sam": 0, "ntm": 1}, abs=0.01)
    page = write_report([folder], tmp_path / "out").read_text()
    assert "sam N^0.00" in page
    assert "ntm N^1.00" in page
    assert "4.1e+03x [4.01e+03, 4.18e+03] as fast as ntm and keeps 4.1e+03x less a step" in page
    assert {p.suffix for p in (tmp_path / "out" / "plots").iterdir()} == {".svg", ".png"}
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert rows[0]["case_id"] in page
    assert "| sam over ntm | 4k |" in (tmp_path / "out" / "report.md").read_text()


def test_page_asks_nothing_of_a_network_and_escapes(run, tmp_path):
    evil = make_result("lstm", 64, status="error", reason="<script>alert(1)</script>")
    page = write_report([run(*sweep("sam", 0), evil)], tmp_path / "out").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "abacus &lt;fast&gt;" in page
    outside = [url for url in re.findall(r"(?:href|src|url\()\s*=?\s*[\"']?(https?:[^\"')\s]+)", page) if "www.w3.org" not in url]
    assert outside == []


def test_same_results_same_page(run, tmp_path):
    folder = run(*sweep("sam", 0.3), *sweep("ntm", 1))
    first, second = (write_report([folder], tmp_path / name).read_text() for name in ("a", "b"))
    assert first == second


@pytest.mark.parametrize(
    "results",
    [
        [make_result()],
        [make_result(per_step=0)],
        [make_result(status="oom", reason="full"), make_result("ntm", status="timeout", reason="slow")],
        [make_result(), make_result(slots=128, status="oom", reason="full"), make_result("ntm", 64, mode="infer")],
    ],
    ids=["one", "zero-bytes", "nothing-measured", "mixed"],
)
def test_awkward_results_still_give_a_page(run, tmp_path, results):
    page = write_report([run(*results)], tmp_path / "out").read_text()
    for result in results:
        assert result.case_id in page
        assert (result.reason or "") in page


def test_several_runs_in_one_report(run, tmp_path):
    folders = [run(*sweep("sam", 0), name="before"), run(*sweep("sam", 0), name="after")]
    page = write_report(folders, tmp_path / "out").read_text()
    assert "sam @ before" in page
    assert "sam @ after" in page


def test_unreadable_run_is_named(tmp_path):
    with pytest.raises(UsageError, match="expected a run folder"):
        write_report([tmp_path], tmp_path / "out")
