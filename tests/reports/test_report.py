"""The page: right, complete for awkward results, safe and reproducible."""

import ast
import csv
import importlib.util
import re
from pathlib import Path

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.reports.html.page import markdown_cell
from mann_bench.reports.html.plot_files import PlotFiles
from mann_bench.reports.pages import write_report, write_reports
from mann_bench.reports.scaling.analysis import analyse
from tests.support.learning import make_run
from tests.support.pages import outside_urls
from tests.support.results import make_result


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
    fits = analyse([folder]).fits["memory_per_step"]
    assert {curve: fit.order for (_, curve), fit in fits.items()} == {"sam": "O(1)", "ntm": "O(N)"}
    page = write_report([folder], tmp_path / "out", files=PlotFiles(("png", "svg"))).read_text()
    assert "The memory each further step takes does not grow with N for sam; it grows as O(N) for ntm." in page
    assert "The time a step takes does not grow with N for sam; it grows as O(N) for ntm." in page
    assert "sam is 4,096x [4,015, 4,179] as fast as ntm and takes 4,096x less memory a step" in page
    assert "O(N): 100 B a slot" in page
    assert {p.suffix for p in (tmp_path / "out" / "plots").iterdir()} == {".svg", ".png"}
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert len(rows) == 8
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "| sam | ntm | 4k |" in markdown
    assert "|---|---|---|---:|" in markdown


def test_warnings_are_on_the_page_in_the_markdown_and_in_the_csv(run, tmp_path):
    noisy = make_result("sam", 64).model_copy(update={"warnings": ["processor 3 was shared with another run"]})
    page = write_report([run(noisy, *sweep("ntm", 1))], tmp_path / "out").read_text()
    for text in (page, (tmp_path / "out" / "report.md").read_text(), (tmp_path / "out" / "results.csv").read_text()):
        assert "processor 3 was shared with another run" in text
    assert "cases have warnings: a ring in the plots" in page
    assert "Half of the median times are known to ±1.0% or better" in page


def test_every_number_leads_to_a_case(run, tmp_path):
    results = [*sweep("sam", 0), *sweep("ntm", 1), make_result("dnc", status="oom", reason="full")]
    page = write_report([run(*results)], tmp_path / "out").read_text()
    anchors = re.findall(r'id="case-([0-9a-f]{16})"', page)
    assert sorted(anchors) == sorted(result.case_id for result in results)
    links = set(re.findall(r'href="#case-([0-9a-f]{16})"', page))
    assert links == {result.case_id for result in results if result.status == "ok"}


def test_tables_sort_by_value_not_by_text(run, tmp_path):
    page = write_report([run(*sweep("ntm", 1))], tmp_path / "out").read_text()
    assert re.search(r'data-value="4096">4k<', page)


def test_page_makes_no_request_and_escapes_text(run, tmp_path):
    evil = make_result("lstm", 64, status="error", reason="<script>alert(1)</script>")
    page = write_report([run(*sweep("sam", 0), evil)], tmp_path / "out").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "abacus &lt;fast&gt;" in page
    assert outside_urls(page) == []


def test_what_a_failed_case_printed_is_folded_and_escaped(run, tmp_path):
    failed = make_result("lstm", 64, status="error", reason="it broke").model_copy(update={"output": "Traceback:\n  <b>line</b> \x1b[31m"})
    page = write_report([run(*sweep("sam", 0), failed)], tmp_path / "out").read_text()
    assert page.count("<details>") == 1
    assert "<pre>Traceback:\n  &lt;b&gt;line&lt;/b&gt; \\x1b[31m</pre>" in page


def test_the_page_is_reproducible(run, tmp_path):
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


def test_zero_is_measured(run, tmp_path):
    """Passes that save nothing for backward appear as 0 in plots, tables and sentences."""
    folder = run(*sweep("lstm", 0), *(r for m in ("sam", "ntm") for r in zeros(m)))
    page = write_report([folder], tmp_path / "out", files=PlotFiles(("svg",))).read_text()
    plots = {path.name: path.read_text() for path in (tmp_path / "out" / "plots").glob("*.svg")}
    assert "nothing measured" not in "".join(plots.values())
    assert {">0 B<", ">0<"} <= set(re.findall(r">[^<]*<", plots["memory_per_step.svg"]))  # a tick, and what is said of a curve
    assert "times_smaller.svg" not in plots
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "The memory each further step takes is 0 at every N for sam, ntm; it does not grow with N for lstm." in markdown
    assert "| sam | O(1): 0 B |" in markdown
    assert "as fast as ntm and keeps 0 B a step, as ntm does" in markdown
    assert "| 0 B : 0 B |" in markdown
    assert "0 B : 0 B" in page


def test_a_ratio_to_zero_is_put_into_words(run, tmp_path):
    write_report([run(*zeros("sam"), *sweep("ntm", 1))], tmp_path / "out")
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "as fast as ntm and keeps 0 B a step, ntm 400 KiB" in markdown
    assert "| 0 B : 400 KiB |" in markdown


def zeros(model):
    return [make_result(model, n, ms=n / 50, per_step=0.0) for n in (64, 256, 1024, 4096)]


EVIL = '=1+1|[x](javascript:x)$\\x$<b>\x1b[31m\n[/x] "quoted"'


def test_text_from_models_is_shown_and_has_no_effect(run, tmp_path):
    """A name and a reason that would be a formula, HTML, a link, mathematics, or colours of a terminal."""
    results = [make_result(f"m:{EVIL}", n, index=EVIL) for n in (64, 256, 1024)]
    failed = make_result(EVIL, 2048, status="error", reason=EVIL + "x" * 10_000)
    page = write_report([run(*results, failed)], tmp_path / "out").read_text()
    assert "<b>" not in page
    assert "\x1b" not in page
    assert "... (8,0" in page
    markdown = (tmp_path / "out" / "report.md").read_text()
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert any("'=1+1/[x] (javascript:x)" in line for line in tables)
    assert not any("<b>" in line or "](" in line for line in tables)
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert {row["index"][:2] for row in rows} == {"'=", "ex"}
    assert {row["reason"][:2] for row in rows} == {"'=", ""}


@pytest.mark.parametrize("text", ["=cmd", "+1+cmd", "-1-cmd", "@sum", "-cmd"])
def test_cells_that_a_spreadsheet_would_run(text):
    assert markdown_cell(text) == f"'{text}"
    assert [markdown_cell(own) for own in ("-", "-3 B", "-0.5", "+1")] == ["-", "-3 B", "-0.5", "+1"]


def test_a_run_named_twice_is_refused(run, tmp_path):
    folder = run(make_result())
    (tmp_path / "link").symlink_to(folder)
    for again in (folder, tmp_path / "link"):
        with pytest.raises(UsageError, match="expected each run once"):
            write_reports([folder, again], tmp_path / "out")


def test_several_runs_in_one_report(run, tmp_path):
    folders = [run(*sweep("sam", 0), name="before"), run(*sweep("sam", 0), name="after")]
    page = write_report(folders, tmp_path / "out").read_text()
    assert "sam @ before" in page
    assert "sam @ after" in page


def test_unreadable_run_is_named(tmp_path):
    with pytest.raises(UsageError, match="expected a run folder"):
        write_report([tmp_path], tmp_path / "out")


def test_runs_whose_folders_have_one_name_are_told_apart(run, tmp_path):
    (tmp_path / "other").mkdir()
    folders = [run(make_result()), run(make_result(), name="other/run")]
    page = write_report(folders, tmp_path / "out").read_text()
    assert f"sam @ {folders[0]}" in page
    assert f"sam @ {folders[1]}" in page


def test_recall_is_plotted_where_there_is_one(run, tmp_path):
    folder = run(make_result(index="lsh").model_copy(update={"recall": 0.5}))
    write_report([folder], tmp_path / "out", files=PlotFiles(("svg",), drawn=False))
    assert "](plots/recall.svg)" in (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "plots").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "T"}, "--x: expected a folder with measurements .* got training runs only; leave it out"),
        ({"baseline": "ntm", "files": PlotFiles(("tex",), 1)}, "--baseline, --columns, --format tex: expected a folder with measurements"),
    ],
)
def test_options_about_measurements_are_refused_for_training_runs(tmp_path, options, message):
    (tmp_path / "learning.jsonl").write_text(make_run().to_line() + "\n")
    with pytest.raises(UsageError, match=message):
        write_reports([tmp_path], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_options_that_would_do_nothing_are_refused(run, tmp_path, call):
    folder = run(make_result())
    done = call("report", folder, "--columns", 1)
    assert (done.returncode, "--columns 1: expected --format too" in done.stderr) == (2, True)
    done = call("report", folder, "--format", ",")
    assert (done.returncode, "--format: expected some of png, svg, pdf, tex" in done.stderr) == (2, True)


def test_a_report_says_how_to_get_plots_and_imports_nothing_that_draws_them(run, tmp_path):
    write_report([run(*sweep("sam", 0))], tmp_path / "out")
    assert "`mann-bench report --format png` draws plots for this page." in (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "plots").exists()
    assert not {"matplotlib", "seaborn", "scipy", "torch", "altair"} & imported_at_once("mann_bench.reports.pages")


def imported_at_once(module):
    """The packages that a module imports when it is imported itself, by it and by modules of this project."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in found or not name.startswith("mann_bench"):
            found.add(name.split(".")[0])
            continue
        found.add(name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue  # a name of a module, and no module
        for node in ast.parse(Path(spec.origin).read_text()).body:
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting.append(node.module)
    return found


def test_a_page_without_the_packages_of_charts_shows_plots_and_its_markdown_links_none(run, tmp_path, monkeypatch):
    monkeypatch.setattr("mann_bench.reports.scaling.page.can_draw", lambda: False)
    page = write_report([run(make_result("sam"), make_result("sam", 256))], tmp_path / "out").read_text()
    assert page.count("<svg") == 4
    assert "Interactive charts need the packages altair and vl-convert-python" in page
    assert "]()" not in (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "plots").exists()
