"""The gate lets a faithful fast path through and stops one that is wrong."""

import torch

from mann_bench.data.case import Case
from mann_bench.kernels import reference
from mann_bench.kernels.reference import content
from mann_bench.measure.gate import check_workload, relative_error
from mann_bench.measure.workload import make_workload


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


def test_not_finite_is_infinitely_wrong():
    assert relative_error(torch.ones(2), torch.tensor([1.0, float("nan")])) == float("inf")
    assert relative_error(torch.ones(2), torch.ones(3)) == float("inf")
    assert relative_error(torch.ones(2), torch.ones(2)) == 0
