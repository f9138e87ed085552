"""The site of all runs: an index, the pages of each run, a page for several machines."""

import json
import re
from pathlib import Path

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.reports.site import Page, Run, _short_names, _title, write_site
from tests.support.profiles import make_profile
from tests.support.results import make_result


def write_run(folder, cpu, suite="quick", day="01"):
    folder.mkdir(parents=True)
    (folder / "results.jsonl").write_text("".join(make_result(model, n).to_line() + "\n" for model in ("sam", "ntm") for n in (64, 256)))
    started_at = f"2026-02-{day}T00:00:00+00:00"
    (folder / "run.json").write_text(json.dumps({"suite": suite, "started_at": started_at, "environment": {"cpu": cpu, "gpus": []}}))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    write_run(root / "a", "abacus <fast>")
    write_run(root / "deep" / "b", "slide rule", day="03")
    write_run(root / "c", "abacus <fast>", suite="paper")
    for folder in ("one", "several/sam", "several/ntm"):
        (root / "profiles" / folder).mkdir(parents=True)
        profile = make_profile(folder.rpartition("/")[2].replace("one", "dam"))
        (root / "profiles" / folder / "profile.json").write_text(profile.model_dump_json(by_alias=True))
    (root / "profiles" / "several" / "profile.html").write_text("the page of both")
    (root / "broken").mkdir()
    (root / "broken" / "results.jsonl").write_text("no json\n")
    out = tmp_path_factory.mktemp("site")
    index, runs = write_site(root, out)
    return index, runs, out


def test_every_link_of_the_index_leads_to_a_page(site):
    index, _, out = site
    text = index.read_text()
    links = re.findall(r'<a href="([^"#]+)"', text)
    profiles = ["profiles/one/profile.html", "profiles/several/profile.html"]
    assert sorted(links) == ["a/report.html", "c/report.html", "deep/b/report.html", "machines/quick/report.html", *profiles]
    assert all((out / link).is_file() for link in links)
    assert "abacus &lt;fast&gt;" in text
    assert "<fast>" not in text


def test_pages_of_a_machine_lead_to_each_other_and_to_the_index(site):
    _, _, out = site
    page = out / "a" / "report.html"
    text = page.read_text()
    links = re.findall(r'<a href="([^"]+)"', text[text.index("On this machine: ") :].split("\n")[0])
    assert links == ["../index.html", "../c/report.html"]
    assert all((page.parent / link).is_file() for link in links)
    assert ">time and memory: c</a>" in text
    alone = (out / "deep" / "b" / "report.html").read_text()
    assert '<p><a href="../../index.html">All runs</a></p>' in alone


def test_profiles_of_several_models_are_one_run(site):
    _, runs, out = site
    assert {run.folder.name: (run.what, run.records) for run in runs if run.what == "profile"} == {
        "one": ("profile", 1),
        "several": ("profile", 2),
    }
    assert "ntm" in (out / "profiles" / "several" / "profile.html").read_text()


def test_machines_stand_beside_each_other(site):
    _, _, out = site
    page = (out / "machines" / "quick" / "report.html").read_text()
    assert "sam @ a" in page
    assert "sam @ b" in page
    assert not (out / "machines" / "paper").exists()


def test_a_run_that_cannot_be_read_is_listed_with_the_reason(site):
    index, runs, _ = site
    assert [run.folder.name for run in runs if run.error] == ["broken"]
    assert "broken/results.jsonl, line 1" in index.read_text()


def test_a_folder_without_runs_is_refused(tmp_path, call):
    with pytest.raises(UsageError, match="expected a folder with runs"):
        write_site(tmp_path, tmp_path / "out")
    done = call("site", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()


def test_names_in_links_leave_out_what_all_of_a_machine_share():
    runs = [
        Run(Path(name), "abacus", "", "", 0, []) for name in ("quick-amd-2-threads", "learning-copy-amd-2-threads", "threads-amd-2-threads")
    ]
    runs.append(Run(Path("alone-amd-2-threads"), "slide rule", "", "", 0, []))
    assert list(_short_names(runs).values()) == ["quick", "learning-copy", "threads", "alone-amd-2-threads"]
    assert _title("learning-copy", Page("learning", "learning.html")) == "learning: copy"
