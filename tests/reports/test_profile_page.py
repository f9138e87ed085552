"""The page of one or several profiles: names, what takes least, warnings, the driver's memory, and what no axis can show."""

import json
import math
import re

import pytest

from mann_bench.data.errors import UsageError
from mann_bench.measure.others import Others
from mann_bench.reports.pages import write_reports
from mann_bench.reports.profile.page import headline, write_profile_page, write_profiles_page
from mann_bench.reports.profile.profiles import named
from mann_bench.reports.profile.series import DRIVER, driver_readings, memory_lines
from mann_bench.run.replies import Failure
from tests.support.browser import CHROMIUM, EVERY_CHART, use_page, use_page_at
from tests.support.profiles import make_profile

EVIL = "<script>alert(1)</script>"


def charts_in(page):
    """The specifications of a page's charts, by their key."""
    found = re.search(r'id="charts-content">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    return json.loads(found[1].replace("\\u003c", "<"))


def test_several_models_share_a_page_that_says_what_takes_least(tmp_path):
    profiles = named([make_profile("sam", ms=1), make_profile("ntm", tape_bytes=50_000, ms=4)])
    text = headline(profiles)
    assert "time a step: sam 3 ms, ntm 4 times as much" in text
    assert "each further step: sam 1,000, ntm 50 times as much" in text
    page = write_profiles_page(profiles, tmp_path)
    rows = charts_in(page)["held"]["datasets"]["rows"]
    added = {(row["curve"], row["step"]): row["bytes"] for row in rows if row["held"] == "added"}
    assert added == {(model, step): size * step for model, size in (("sam", 1000), ("ntm", 50_000)) for step in (1, 2, 3, 4)}
    assert "sam, ntm, N = 1k" in page.read_text()


def test_profiles_of_one_model_have_names_that_tell_them_apart():
    same = make_profile()
    assert list(named([same, make_profile(case={"slots": 2048})])) == ["sam N=1k train", "sam N=2k train"]
    assert list(named([same, same])) == ["sam N=1k train (1)", "sam N=1k train (2)"]


def test_a_difference_of_settings_is_said():
    assert "differ in slots" in headline(named([make_profile(), make_profile("ntm", case={"slots": 2048})]))


def test_driver_readings_stand_at_the_moments_that_they_were_taken_at():
    by_step = make_profile(nvml_bytes=[10, 20, 30, 40, 50])
    assert [(moment.label, size) for moment, size in driver_readings(by_step)] == [
        ("f1", 10),
        ("f2", 20),
        ("f3", 30),
        ("f4", 40),
        ("b1", 50),
    ]
    once = make_profile(nvml_bytes=[99])
    assert {row["bytes"] for row in memory_lines("sam", once) if row["line"] == DRIVER} == {99}
    assert not [row for row in memory_lines("sam", make_profile()) if row["line"] == DRIVER]


def test_a_busy_machine_and_a_failure_are_said_at_the_top_and_escaped(tmp_path):
    profile = make_profile(warnings=[f"The machine was busy {EVIL}"])
    text = write_profiles_page({EVIL: profile}, tmp_path, failures={f"x{EVIL}": f"oom: {EVIL}"}).read_text()
    assert EVIL not in text
    top = text[: text.index('id="charts"')]
    assert "The machine was busy &lt;script" in top
    assert "could not be profiled: oom: &lt;script" in top


@pytest.mark.parametrize(
    "profile",
    [
        make_profile(steps=1),
        make_profile(case={"mode": "infer"}, tape_bytes=0),
        make_profile(ms=0.0),
        make_profile(ms=math.nan),
        make_profile(ms=math.inf, tape_bytes=0),
    ],
)
def test_one_point_zeros_and_values_that_are_no_numbers_give_a_page(tmp_path, profile):
    page = write_profile_page(profile, tmp_path)
    charts_in(page)
    if CHROMIUM:
        use_page(page, EVERY_CHART)


def test_without_one_profile_there_is_a_page_with_the_reason(tmp_path):
    text = write_profiles_page({}, tmp_path, failures={"ntm": "oom: too large"}).read_text()
    assert "ntm could not be profiled: oom: too large" in text


def test_a_report_joins_the_profiles_of_folders(tmp_path):
    for name, model in (("a", "sam"), ("b/01-ntm", "ntm")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "profile.json").write_text(make_profile(model).model_dump_json(by_alias=True))
    pages = write_reports([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert [page.name for page in pages] == ["profile.html"]
    assert "sam, ntm, N = 1k" in pages[0].read_text()
    (tmp_path / "a" / "profile.json").write_text("{}")
    with pytest.raises(UsageError, match=r"profile\.json: expected what `mann-bench profile` writes there"):
        write_reports([tmp_path / "a"], tmp_path / "out")


def test_others_that_use_the_processors_are_told_from_this_process(monkeypatch):
    readings = iter([(0.0, 0.0, 0.0), (8.0, 10.0, 7.9), (0.0, 0.0, 0.0), (8.0, 10.0, 2.0)])
    monkeypatch.setattr(Others, "_busy_s", lambda self: next(readings))
    assert not Others().warnings([9.0, 1.0, 1.1])
    assert Others().warnings([9.0, 1.0, 1.1])[0].startswith("The machine was busy: others used 60%")


def test_passes_that_differ_are_a_warning(monkeypatch):
    monkeypatch.setattr(Others, "_busy_s", lambda self: (0.0, 0.0, 0.0))
    assert Others().warnings([1.0, 1.0, 2.0]) == [
        "Passes of the same work took 1 to 2 ms: the machine was busy, or its clock changed. Trust shares and bytes more than milliseconds."
    ]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_profiles_in_a_browser(tmp_path):
    profiles = named([make_profile("sam", nvml_bytes=[10**8]), make_profile("ntm", tape_bytes=50_000, ms=40)])
    for seen in use_page_at(write_profiles_page(profiles, tmp_path), EVERY_CHART, (420, 1400)):
        assert seen["DRAWN"] == ["held", "by-cause", "peaks", "phases", "step-times", "counted"]
        assert all(seen["MARKS"])
        assert seen["TIPS"] == 6
        assert min(seen["CSV"]) > 4
        assert (seen["WIDE"], seen["UNNAMED"], seen["SORTED"]) == (0, 0, "ascending")


def test_the_command_profiles_several_models_and_goes_on_after_one_that_fails(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def profiled(case, folder, memory_bytes, seconds):
        folder.mkdir(parents=True)
        return Failure(status="oom", reason=EVIL) if case.model == "ntm" else make_profile(case.model)

    monkeypatch.setattr("mann_bench.run.profiling.profile_in_worker", profiled)
    done = call("profile", "sam", "ntm", "dam", "--slots", "1k", "--out", "page")
    assert done.returncode == 1
    assert f"ntm: oom: {EVIL}" in done.stderr
    assert "sam: A step takes 3 ms" in done.stdout
    text = (tmp_path / "page" / "profile.html").read_text()
    assert "sam, dam, N = 1k" in text
    assert "ntm could not be profiled: oom: &lt;script" in text
    again = call("profile", "sam", "--out", "page")
    assert again.returncode == 2
    assert "--out page: expected a new or empty folder, got one that holds files; name another, or remove it" in again.stderr
    twice = call("profile", "sam", "sam")
    assert twice.returncode == 2
    assert "expected each model once, got sam twice" in twice.stderr
    both = call("profile", "sam", "dam", "--json", "--out", "json")
    assert [profile["case"]["model"] for profile in json.loads(both.stdout)] == ["sam", "dam"]
