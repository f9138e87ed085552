"""What is published in README.md and docs/: every number comes from committed results, and only data and what pages show is kept."""

import json
import re
import subprocess

import pytest

from mann_bench.kernels.native import build
from tests.published import minutes, short_pass
from tests.published.numbers import COPY, MARKED, NUMBERS, PAGES, ROOT, computed, filled
from tests.published.pages import differences
from tests.published.results import RESULTS, XEON
from tests.published.studies import against_sam, experiment

PAGE = " ".join(MARKED.sub(r"\2", (RESULTS / "README.md").read_text()).split())


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_on_a_page_is_what_the_results_give(name):
    marked = [text for path in PAGES for found, text in MARKED.findall(path.read_text()) if found == name]
    assert marked, f"no page has a marker for {name}"
    assert {" ".join(text.split()) for text in marked} == {" ".join(computed(name).split())}, "run `make numbers`"


def test_every_marker_is_known_and_closed():
    for path in PAGES:
        text = path.read_text()
        names = re.findall("<!-- data: (.*?) -->", text)
        assert set(names) <= set(NUMBERS), path
        assert len(names) == len(MARKED.findall(text)) == text.count("<!-- end -->"), path


def test_a_wrong_number_is_replaced_and_a_right_one_keeps_its_line_breaks():
    text, _ = NUMBERS["ntm-rate"]
    assert text == "{}"
    right = f"a <!-- data: ntm-rate -->{computed('ntm-rate').replace(' ', chr(10))}<!-- end --> b"
    assert filled(right) == right
    assert filled("a <!-- data: ntm-rate -->1 B\na slot<!-- end --> b") == f"a <!-- data: ntm-rate -->{computed('ntm-rate')}<!-- end --> b"


def test_minutes_are_measured_by_a_command_and_rounded_up(tmp_path):
    file, made = tmp_path / "minutes.json", list[str]()
    times = iter([0.0, 601.0, 700.0, 1000.0])
    minutes.measure(["test", "regress"], file, made.append, lambda: next(times))
    assert made == ["test", "regress"]
    measured = json.loads(file.read_text())
    assert measured["minutes"] == {"test": 11, "regress": 5}
    said = "`make test` takes 11 minutes and `make regress` 5 (2 threads of AMD EPYC)"
    assert minutes.sentence({**measured, "cpu": "AMD EPYC", "threads": 2}) == said
    assert "up to" in minutes.sentence(None)
    assert minutes.target_minutes() in (ROOT / "README.md").read_text()


def test_minutes_of_a_target_stay_where_the_next_fails_and_only_those_of_the_same_machine(tmp_path):
    file = tmp_path / "minutes.json"
    file.write_text(json.dumps({"cpu": "another", "threads": 99, "minutes": {"test": 1, "regress": 1}}))

    def make(target):
        if target == "regress":
            raise SystemExit("it fails")

    times = iter([0.0, 61.0, 70.0])
    with pytest.raises(SystemExit):
        minutes.measure(["test", "regress"], file, make, lambda: next(times))
    measured = json.loads(file.read_text())
    assert measured["minutes"] == {"test": 2}
    assert "up to" in minutes.sentence(measured)


def test_a_page_that_is_not_what_the_code_makes_is_found(tmp_path):
    for folder, text in (("kept/a/report", "one\ntwo\n"), ("kept/b/report", "one\n"), ("made/a", "one\nthree\n")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "report.md").write_text(text)
    found = differences(tmp_path / "kept", tmp_path / "made")
    assert [line for line in found if line in ("-two", "+three")] == ["-two", "+three"]
    assert found[-1] == f"{tmp_path / 'kept/b/report/report.md'}: the site has no such page"


def test_results_hold_data_and_what_their_markdown_shows():
    listed = subprocess.run(["git", "ls-files", "docs/results"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    kept = {ROOT / path for path in listed if path and (ROOT / path).exists()}
    assert {path.suffix for path in kept} <= {".jsonl", ".json", ".md", ".png", ".txt", ""}
    pages = [*(path for path in kept if path.suffix == ".md"), *PAGES]
    shown = {(page.parent / link).resolve() for page in pages for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())}
    assert {path for path in kept if path.suffix == ".png"} == {path for path in shown if RESULTS in path.parents}


def test_every_run_has_its_page():
    for folder in {path.parent for name in ("results.jsonl", "learning.jsonl") for path in RESULTS.glob(f"*/{name}")}:
        page = "learning.md" if (folder / "learning.jsonl").exists() else "report.md"
        assert (folder / "report" / page).is_file(), "run `make pages`"
        assert folder.name in (RESULTS / "README.md").read_text(), folder


@pytest.mark.parametrize(
    ("said", "study", "task", "levels", "goal", "sequences", "dam"),
    [
        ("Copy of 1 to 20 bytes, until a loss of 0.02 bits a bit, at most 65,536 sequences:", COPY, "copy", (1, 20), 0.02, 65_536, "fewer"),
        ("Recall of 3 to 6 pairs, until 0.1 bits a bit, at most 256,000 sequences:", "efficiency", "recall", (3, 6), 0.1, 256_000, "more"),
        ("first 16 of 20, until 0.3 bits a bit, at most 98,304 sequences:", "efficiency", "priority-sort", (20, 20), 0.3, 98_304, "fewer"),
    ],
)
def test_what_the_page_says_of_the_studies_in_words(said, study, task, levels, goal, sequences, dam):
    assert said in PAGE
    assert (
        "fewer sequences than its dense twin, the DAM, on recall, and more on copy and sort. The SDNC needs fewer than SAM on all" in PAGE
    )
    needs = against_sam(study, task).split("; ")
    assert [text for text in needs if text.startswith("DAM") and f", {dam} (" in text]
    assert [text for text in needs if text.startswith("SDNC") and ", fewer (" in text]
    assert "medians of ten seeds until the goal" in PAGE
    found = experiment(study, task)
    assert [len(studied.runs) for studied in found.curves] == [10] * 6
    assert {(run.case.goal, run.case.sequences, run.case.levels) for run in found.runs} == {(goal, sequences, levels)}


def test_a_gated_erase_changed_nothing():
    assert 'the gate of `erase="gated"` changed nothing: its runs are those of K 4 to the sequence' in PAGE
    curves = {
        curve.arm: [(run.case.seed, run.sequences_to_goal) for run in curve.runs]
        for curve in experiment(f"ablations-{XEON}", "recall").curves
    }
    assert sorted(curves["gated erase"]) == sorted(curves["K 4"])
    assert {len(runs) for runs in curves.values()} == {10}


@pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")
def test_a_short_pass_is_taken_apart():
    for parts in short_pass.passes(3):
        assert parts.keys() == short_pass.WHERE.keys()
        assert min(parts.values()) > 0
