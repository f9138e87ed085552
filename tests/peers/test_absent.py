"""Peers whose package is not here: listed, planned, and stored as unavailable with the reason. No package is needed."""

import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

from mann_bench.cli.listings import models
from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.registry import BUILT_INS, PEERS, find_model, split_variant
from mann_bench.data.suite import Budget, load_suite
from mann_bench.kernels.index import Unavailable
from mann_bench.learn.plan import plan_run
from mann_bench.machine.software import PACKAGES
from mann_bench.measure.predict import predict, why_unbuildable
from mann_bench.run.builds import build_of
from mann_bench.run.runner import StoppedCurves, precheck, why_not_here
from mann_bench.suites.tasks import find_task

ROOT = Path(__file__).resolve().parents[2]


def said(reason: str | None) -> str:
    assert reason is not None
    return reason


def case_of(name, **fields):
    return Case(suite="s", model=name, **{"slots": 64, **fields})


@pytest.fixture
def absent(monkeypatch):
    """As if no package of a peer were installed."""
    found = importlib.util.find_spec
    modules = {name for entry in PEERS.values() for name in vars(entry.load())["needs_modules"]} - {"numpy", "tqdm"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in modules else found(name, *rest))
    return modules


@pytest.mark.parametrize("name", PEERS)
def test_unavailable_where_the_package_is_missing(name, absent):
    entry = find_model(name)
    reason = said(why_not_here(case_of(name)))
    assert entry.package in reason
    assert "mann-bench[peers]" in reason or name == "sparse-delta-memory"
    failure = precheck(case_of(name), Budget(), StoppedCurves([]))
    assert failure is not None
    assert (failure.status, failure.reason) == ("unavailable", reason)
    with pytest.raises(Unavailable, match=entry.package):
        entry.build(case_of(name))


def test_only_the_extra_installs_them_and_its_packages_are_recorded():
    """The one of another licence is not among them."""
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["peers"]
    named = {requirement.split(">=")[0].split("==")[0].split(";")[0].strip() for requirement in extra}
    packages = {entry.package for entry in PEERS.values()}
    assert packages - named == {"sparse-delta-memory"}
    assert packages <= set(PACKAGES)


def test_listed_with_licence_source_and_what_n_means():
    rows = {row["model"]: row for row in models()}
    for name, entry in PEERS.items():
        row = rows[name]
        assert row["license"] == entry.license
        assert str(row["source"]).startswith("https://github.com/")
        assert "N " in str(row["memory"])
        assert row["here"] == "available" or str(row["here"]).startswith("unavailable: ")
    assert rows["sparse-delta-memory"]["license"] == "CC-BY-NC 4.0"
    assert not any(rows[name]["here"] for name in BUILT_INS)


def test_plans_bytes_without_the_packages(absent):
    """A table four times as large takes four times the bytes; links of a DNC sixteen times."""
    for name, ratio in {"product-key-memory": 4, "fast-weight-product-key-memory": 4, "titans-pytorch": 4, "ixaxaar-dnc": 16}.items():
        for mode in ("train", "infer"):
            small, large = (predict(case_of(name, slots=slots, mode=mode), Budget()).total_bytes or 0 for slots in (2**14, 2**16))
            assert 0.9 * ratio < large / small <= ratio, (name, mode)
    of_delta_rule = [predict(case_of("fla-gated-delta-rule", slots=slots), Budget()).total_bytes or 0 for slots in (2**14, 2**16)]
    assert of_delta_rule[0] == of_delta_rule[1] > 0


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("product-key-memory", {"slots": 65}, "slots: expected a perfect square for product keys of 2 factors, as 64 or 81, got 65"),
        ("product-key-memory", {"reads": 9}, "reads: expected at most 8, the keys of a factor of 64 slots, got 9"),
        ("fast-weight-product-key-memory", {"options": {"chunk": 0}}, "chunk: expected a whole number >= 1, got 0"),
        ("fast-weight-product-key-memory", {"options": {"update": "sum"}}, "update: expected one of mean, gated, got 'sum'"),
        ("titans-pytorch", {"slots": 1}, "slots: expected at least 2, for two matrices, got 1"),
    ],
)
def test_sizes_that_no_machine_can_build(name, fields, reason, absent):
    assert why_unbuildable(case_of(name, **fields)) == reason


def test_options_are_checked_without_the_package(absent):
    entry = find_model("fast-weight-product-key-memory")
    assert [*entry.options()] == ["chunk", "update"]
    assert "chunk: expected a whole number, got half" in said(entry.why_not_option("chunk", "half"))
    assert "did you mean 'chunk'" in said(entry.why_not_option("chunks", 2))
    with pytest.raises(UsageError, match="did you mean 'titans-pytorch'"):
        find_model("titan-pytorch")


def test_what_a_package_does_not_do_is_unavailable():
    assert "Triton kernels have no adapter" in said(find_model("fla-gated-delta-rule").why_not("cuda"))
    sdm = find_model("sparse-delta-memory")
    if sys.version_info < (3, 12):
        assert "needs Python >= 3.12, this is 3.11" in said(sdm.why_not("cuda"))
    else:
        assert "runs on CUDA only" in said(sdm.why_not("cpu"))
        assert "sparse-delta-memory" in said(sdm.why_not("cuda"))


def test_a_newer_python_does_not_make_the_authors_sdm_run(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    sdm = find_model("sparse-delta-memory")
    assert "runs on CUDA only" in said(sdm.why_not("cpu"))
    assert "pip install" not in said(sdm.why_not("cuda"))


def test_names_are_no_variants_and_need_no_native_kernels():
    for name in PEERS:
        assert split_variant(name) == (name, "plain")
        assert build_of(case_of(name), "float32") is None


def test_training_is_planned_with_sizes_that_fit(absent):
    """Perfect squares where a package needs them; a size that does not fit is refused before anything runs."""
    task = find_task("copy")
    for name in PEERS:
        case = plan_run("copy", task, name, 0, {"sequences": 8})
        assert why_unbuildable(case_of(name, slots=case.slots)) is None
    with pytest.raises(UsageError, match="perfect square"):
        plan_run("copy", task, "product-key-memory", 0, {"slots": 65, "sequences": 8})


def test_suite_today_compares_them():
    suite = load_suite("today")
    assert {case.model for case in suite.cases} >= {*PEERS, "sam", "sdnc", "sdm", "pkm", "deltanet"}
    assert {case.batch for case in suite.cases} == {1, 8}
    assert {case.mode for case in suite.cases} == {"train", "infer"}
    for name in ("product-key-memory", "fast-weight-product-key-memory"):
        assert {case.slots for case in suite.cases if case.model == name} == {case.slots for case in suite.cases if case.model == "sam"}
    assert [problem for case in suite.cases if (problem := why_unbuildable(case))] == []
