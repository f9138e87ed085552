"""The share of the copy rate that a dense model reaches with the bytes of its floor: in results, tables and claims."""

from typing import Any

import pytest

from mann_bench.data.result import Floor, parse_line
from mann_bench.reports.claims.judge import judge_claims
from mann_bench.reports.data.floor import floor_text
from mann_bench.reports.scaling.floor import floor_table
from tests.support.results import make_result

MATRIX = Floor(step_bytes=10**8, matrix_bytes=2**27, cache_bytes=2**25, copy_bytes_per_s=1e10)


def with_floor(floor, ms, model="ntm", **changes):
    """A result whose step of `ms` milliseconds has this floor."""
    return make_result(model, 2**20, ms=ms, **changes).model_copy(update={"floor": floor})


def test_a_share_is_the_time_of_copying_over_the_time_taken():
    result = with_floor(MATRIX, ms=16)  # copying 100 MB takes 10 ms
    assert result.floor_share == pytest.approx(0.625)
    assert parse_line(result.to_line().encode()) == result
    assert with_floor(None, ms=16).floor_share is None
    assert with_floor(MATRIX.model_copy(update={"copy_bytes_per_s": None}), ms=16).floor_share is None
    assert with_floor(MATRIX.model_copy(update={"cache_bytes": 2**27}), ms=16).floor_share is None


def test_what_fits_a_cache_or_was_not_copied_says_so_instead(frame_of):
    floors = [
        MATRIX,
        MATRIX.model_copy(update={"cache_bytes": 2**27, "copy_bytes_per_s": None}),
        MATRIX.model_copy(update={"copy_bytes_per_s": None}),
        MATRIX.model_copy(update={"copy_bytes_per_s": 1e9}),
        None,
    ]
    results = [with_floor(floor, ms=16, seed=seed) for seed, floor in enumerate(floors)]
    frame = frame_of(*results, make_result("ntm", 64, status="oom"))
    expected = [
        "62% of the copy rate",
        "its memory fits the cache, so that it need not move",
        "not known: there was no room for copies",
        "above the copy rate: a cache serves a part",
        "",
    ]
    assert [floor_text(row) for row in frame[frame["status"] == "ok"].to_dict("records")] == expected
    assert [row[-1].text for row in floor_table(frame).rows] == [expected[0], *expected[2:4]]  # one on torch that fits is left out
    native = frame.assign(ran_kernels="native")
    assert [row[-1].text for row in floor_table(native).rows] == expected[:4]
    assert floor_table(frame_of(make_result("ntm"))).rows == ()


def test_a_claim_names_the_share_of_the_dense_side(frame_of):
    setting: dict[str, Any] = {"batch": 8, "steps": 1}
    dense, sparse = with_floor(MATRIX, ms=16, **setting), make_result("sam", 2**20, ms=0.1, index="lsh", **setting)
    (verdict,) = [found for found in judge_claims(frame_of(dense, sparse)) if found.claim.id == "time-ann"]
    assert "Against what a step cannot avoid moving: 62% of the copy rate." in verdict.remarks
