"""The gate lets a faithful fast path through and stops one that is wrong."""

import math

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.data.registry import BUILT_INS
from mann_bench.data.result import Check
from mann_bench.kernels import reference
from mann_bench.kernels.reference import content
from mann_bench.measure.gate import check_workload, relative_error
from mann_bench.measure.workload import ModelWorkload, make_workload


def test_reference_needs_no_check():
    assert check_workload(make_workload(Case(suite="s", model="sam", kernels="torch", slots=64))) is None


def test_live_index_agrees_and_a_broken_one_is_caught(monkeypatch):
    workload = make_workload(Case(suite="s", model="sam", kernels="torch", index="live", slots=4096))
    check = check_workload(workload)
    assert check is not None
    assert check.ok

    def worst_rows(memory, norms, queries, k, live, *, scan_all=True):
        return content.topk_content(memory, norms, queries if scan_all else -queries, k, live, scan_all=scan_all)

    monkeypatch.setattr(reference, "topk_content", worst_rows)
    check = check_workload(workload)
    assert check is not None
    assert not check.ok


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        *((name, {}) for name, entry in BUILT_INS.items() if entry.native),
        ("sdm", {"reads": 12}),
        ("sdm", {"slots": 1000, "options": {"factors": 3}}),
        ("sdm", {"options": {"factors": "16x64"}}),
    ],
)
def test_every_native_model_is_held_to_its_reference_at_a_size_that_it_takes(model, sizes):
    workload = make_workload(Case(suite="s", model=model, kernels="native", **{"slots": 1024, "hidden": 8, **sizes}))
    assert workload.twin is not None
    assert all(case.slots <= 1024 for case in workload.twin)
    check = check_workload(workload)
    assert check is not None
    assert check.ok


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_on_either_side_is_infinitely_wrong(bad):
    good = torch.ones(2)
    for expected, got in ((good, torch.tensor([1.0, bad])), (torch.tensor([1.0, bad]), good), (torch.tensor([bad, 1.0]),) * 2):
        assert relative_error(expected, got) == math.inf


def test_relative_error_of_comparable_and_other_tensors():
    assert relative_error(torch.ones(2), torch.ones(3)) == math.inf
    assert relative_error(torch.ones(2), torch.ones(2)) == 0
    assert relative_error(torch.ones(0), torch.ones(0)) == 0
    assert relative_error(torch.full((2,), 1e200, dtype=torch.float64), torch.ones(2, dtype=torch.float64)) == math.inf  # squares overflow


@pytest.mark.parametrize(("factors", "small"), [(2, 100), (4, 256), ("64x64", 4096)])
def test_the_gate_is_small_for_product_keys_of_any_number_of_factors(factors, small):
    """Not with given sizes, of which N is the product. A gate at full size took twice the memory of the case."""
    workload = make_workload(Case(suite="s", model="sdm", kernels="native", slots=4096, options={"factors": factors}))
    assert workload.small_case.slots == small
    check = check_workload(workload)
    assert check is not None
    assert check.ok


@pytest.mark.parametrize("order", [1, -1])
def test_one_bad_gradient_among_good_ones_is_unverified(order, monkeypatch):
    """In whatever order: Python's max drops a NaN that is not the first. A missing gradient counts as a difference."""
    good, bad = torch.ones(2), torch.tensor([math.nan, 1.0])
    workload = make_workload(Case(suite="s", model="sam", kernels="torch", index="live", slots=64))
    for reference_side, fast_side in ((bad, good), (good, bad), (good, None)):
        sides = iter([{"y": good, "grad": reference_side}, {"y": good, "grad": fast_side}])

        def observables(self, sides=sides):
            return {name: value for name, value in list(next(sides).items())[::order] if value is not None}

        monkeypatch.setattr(ModelWorkload, "observables", observables)
        check = check_workload(workload)
        assert check is not None
        assert (check.ok, check.max_rel_err) == (False, math.inf)
        assert Check.model_validate_json(check.model_dump_json()) == check
