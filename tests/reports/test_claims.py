"""The paper's claims: complete as data, and judged by their formula."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from mann_bench.data.suite import load_suite
from mann_bench.reports.claims.claim import Claim, load_claims, verdict_of
from mann_bench.reports.claims.display import to_json
from mann_bench.reports.claims.judge import NO_RUN, NO_TRAINING, judge_claims
from tests.support.results import make_result


@pytest.fixture
def judge(frame_of):
    return lambda *results: judge_claims(frame_of(*results))


def named(judged, name):
    return [verdict for verdict in judged if verdict.claim.id == name]


FIGURE_1A: dict[str, Any] = {"slots": 2**20, "batch": 8, "steps": 1}


def test_every_claim_finds_its_cases_in_the_paper_suite():
    cases = [case.model_dump() for case in load_suite("paper").cases]

    def holds(*sides):
        wanted = {name: value for side in sides for name, value in side.items()}
        return any(all(case[name] == value for name, value in wanted.items()) for case in cases)

    for claim in load_claims():
        for side in (claim.of, claim.over, claim.less):
            assert not side or holds(claim.where, side), claim.id


def test_nothing_ran(judge):
    judged = judge(make_result())
    assert {claim_verdict.verdict for claim_verdict in judged} == {"not run"}
    assert [claim_verdict.claim for claim_verdict in judged] == list(load_claims())
    assert named(judged, "time-ann")[0].remarks == (NO_RUN,)
    assert named(judged, "learn-babi")[0].remarks == (NO_TRAINING,)


@pytest.mark.parametrize(("ntm_ms", "verdict"), [(8000, "exceeded"), (1600, "reproduced"), (1500, "reproduced"), (500, "not reproduced")])
def test_ratio_is_judged_against_the_papers(judge, ntm_ms, verdict):
    lsh = make_result("sam", index="lsh", ms=1, **FIGURE_1A).model_copy(update={"recall": 0.8})
    plain = make_result("ntm", ms=ntm_ms, per_step=300 * 8 * 2**20, **FIGURE_1A)
    frugal = make_result("ntm", variant="checkpointed", ms=ntm_ms * 2, **FIGURE_1A)
    (judged,) = named(judge(lsh, plain, frugal), "time-ann")
    assert judged.verdict == verdict
    assert judged.value == pytest.approx(ntm_ms)
    assert judged.low < judged.value < judged.high
    assert set(judged.case_ids) == {plain.case_id, lsh.case_id}
    remarks = " ".join(judged.remarks)
    assert "the paper's 12 s; it keeps 300 bytes a slot and step (the paper's about 4,900)" in remarks
    assert "recall 0.80" in remarks
    assert "test, 1 thread, kernels torch, index lsh" in remarks


def test_the_dense_side_is_the_fastest_there_is_with_the_plain_one_beside_it(judge):
    lsh = make_result("sam", index="lsh", ms=1, kernels="native", **FIGURE_1A)
    slow = make_result("sam", index="lsh", ms=90, kernels="torch", **FIGURE_1A)
    plain = make_result("ntm", ms=9000, kernels="torch", **FIGURE_1A)
    compiled = make_result("ntm", variant="compiled", ms=4000, kernels="torch", **FIGURE_1A)
    native = make_result("ntm", ms=1600, kernels="native", **FIGURE_1A)
    native = native.model_copy(update={"backend": native.backend.model_copy(update={"kernels": "native"})})
    (judged,) = named(judge(lsh, slow, plain, compiled, native), "time-ann")
    assert judged.value == pytest.approx(1600)
    assert set(judged.case_ids) == {native.case_id, lsh.case_id}
    remarks = " ".join(judged.remarks)
    assert f"Against ntm torch, step by step in torch: {judged.claim.show(9000)}." in remarks
    assert "compiled" not in remarks


def test_the_most_frugal_variant_stands_beside_a_claim_about_memory(judge):
    small: dict[str, Any] = {"slots": 2**16, "batch": 1, "steps": 100}
    sam, ntm = make_result("sam", per_step=1000, **small), make_result("ntm", per_step=2e6, **small)
    frugal = make_result("ntm", variant="checkpointed", ms=2, per_step=1e6, **small)
    (judged,) = named(judge(sam, ntm, frugal), "memory-ratio")
    assert judged.value == pytest.approx(2000)
    assert f"Against ntm-checkpointed: {judged.claim.show(1000)}." in judged.remarks


def test_other_set_ups_are_not_mixed(judge):
    one_step = make_result("ntm", ms=1600, **FIGURE_1A)
    ten_steps = make_result("sam", index="lsh", ms=1, **{**FIGURE_1A, "steps": 10})
    assert named(judge(one_step, ten_steps), "time-ann")[0].verdict == "not run"


def test_value_difference_and_order(judge):
    small: dict[str, Any] = {"batch": 1, "steps": 100}
    curve = [make_result("sam", n, ms=1, per_step=500, **small) for n in (64, 1024, 2**16)]
    links: dict[str, Any] = {"slots": 2048, "batch": 1, "steps": 10, "mode": "infer"}
    judged = judge(*curve, make_result("sam", ms=0.2, **links), make_result("sdnc", ms=0.26, **links))
    (memory,) = named(judged, "memory-sam")
    assert memory.value == 10 * 500
    assert memory.verdict == "exceeded"
    assert memory.low is None
    (link,) = named(judged, "link-time")
    assert link.value == pytest.approx(0.06)
    assert link.verdict == "exceeded"
    (flat,) = named(judged, "space-order")
    assert (flat.value_text, flat.verdict) == ("O(1); 3 sizes only", "reproduced")
    assert "Fitted over N = 64 to 65,536." in flat.remarks
    growing = [make_result("sam", n, per_step=n, **small) for n in (64, 1024, 2**16)]
    (linear,) = named(judge(*growing), "space-order")
    assert (linear.claim.paper_text, linear.value_text, linear.verdict) == ("O(1)", "O(N); 3 sizes only", "not reproduced")


def test_an_order_that_the_points_cannot_tell_is_not_decided(judge):
    sizes = (64, 1024, 2**14, 2**16, 2**18)
    curve = [make_result("sam", n, index="lsh", ms=1 + 0.03 * n.bit_length(), batch=8) for n in sizes]
    (judged,) = named(judge(*curve), "time-order")
    assert judged.verdict == "not decided"
    assert "O(sqrt N)" in judged.value_text
    assert judged.value is None


def test_failed_cases_are_no_evidence(judge):
    failed = make_result("ntm", status="oom", reason="full", **FIGURE_1A)
    assert named(judge(make_result("sam", index="lsh", **FIGURE_1A), failed), "time-ann")[0].verdict == "not run"


def test_lower_is_better():
    claim = next(claim for claim in load_claims() if claim.id == "time-sam")
    assert [verdict_of(claim, ms) for ms in (1, 6.5, 7.5, 70)] == ["exceeded", "reproduced", "reproduced", "not reproduced"]


def test_to_json(judge):
    assert json.loads(json.dumps([to_json(verdict) for verdict in judge(make_result())]))[0]["verdict"] == "not run"


@pytest.mark.parametrize(
    "change",
    [{"kind": "ratio"}, {"of": {}}, {"paper": None}, {"where": {"sluts": 3}}, {"quantity": "joy"}, {"kind": "difference"}],
)
def test_a_claim_must_be_whole(change):
    whole: dict[str, Any] = {"id": "x", "says": "", "source": "", "kind": "value", "of": {"model": "sam"}, "paper": 1}
    Claim(**whole)
    with pytest.raises(ValidationError):
        Claim(**{**whole, **change})
