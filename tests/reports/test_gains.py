"""The gain of a sparse model taken apart: factors of planted times."""

import pytest

from mann_bench.reports.analysis.gains import gains
from mann_bench.reports.scaling.analysis import analyse
from mann_bench.reports.scaling.sentences import headline, sentences
from mann_bench.reports.scaling.tables import gain_table
from tests.support.results import make_result


def step(model, ms, ran, slots=1024, **changes):
    kernels = {} if changes.get("variant") else {"kernels": ran}
    result = make_result(model, slots, ms=ms, **kernels, **changes)
    return result.model_copy(update={"backend": result.backend.model_copy(update={"kernels": ran})})


def four(slots=1024, scale=1.0):
    times = (("ntm", 100.0, "torch"), ("ntm", 20.0 * scale, "native"), ("sam", 40.0, "torch"), ("sam", 0.5, "native"))
    return [step(model, ms, ran, slots) for model, ms, ran in times]


def test_four_times_give_three_factors(frame_of):
    (gain,) = gains(frame_of(*four()))
    assert gain.is_apart
    assert gain.sparsity.value == pytest.approx(40)
    assert (gain.sparsity.low, gain.sparsity.high) == pytest.approx((40 * 0.99 / 1.01, 40 * 1.01 / 0.99))
    assert gain.dense_implementation is not None
    assert gain.sparse_implementation is not None
    assert gain.both is not None
    assert gain.dense_implementation.value == pytest.approx(5)
    assert gain.sparse_implementation.value == pytest.approx(80)
    assert gain.both.value == pytest.approx(gain.dense_implementation.value * gain.sparsity.value)


def test_the_fastest_dense_variant_counts_and_is_marked_if_it_is_not_native(frame_of, tmp_path):
    compiled = step("ntm", 10, "torch", variant="compiled")
    (gain,) = gains(frame_of(*four(), compiled))
    assert gain.dense.case_id == compiled.case_id
    assert not gain.is_apart
    analysis = analyse([tmp_path])
    (row,) = gain_table(analysis).rows
    assert row[8].text == "20 [19.6, 20.4] *"
    assert not any(sentence.startswith("Sparsity alone") for sentence in sentences(analysis, analysis.settings[0]))


def test_what_a_run_lacks_is_left_out(frame_of):
    assert gains(frame_of(step("sam", 1, "torch"), step("ntm", 1, "torch"))) == []
    assert gains(frame_of(step("sam", 1, "native"), step("ntm", 1, "native", batch=8))) == []
    (gain,) = gains(frame_of(step("sam", 1, "native"), step("ntm", 3, "native")))
    assert (gain.dense_torch, gain.sparse_torch, gain.both) == (None, None, None)


def test_the_verdict_begins_with_sparsity_alone_at_the_largest_size(frame_of, tmp_path):
    frame_of(*four(64, scale=2), *four(1024))
    analysis = analyse([tmp_path])
    assert sentences(analysis, analysis.settings[0])[0] == (
        "Sparsity alone, both on native kernels: at N = 1k, sam native is 40x [39.2, 40.8] as fast as ntm native. Against ntm torch, "
        "step by step in torch, it is 200x [196, 204] as fast; 5x [4.9, 5.1] of this is the implementation of ntm."
    )


@pytest.mark.parametrize(("dense", "mode", "said"), [("native", "train", True), ("torch", "train", False), ("native", "infer", False)])
def test_the_first_sentence_says_where_the_paper_is_not_reached(frame_of, tmp_path, dense, mode, said):
    """Against a native NTM, or what is faster than it, in training at the N of the claim."""
    million, setting = 2**20, {"mode": mode, "batch": 8}
    frame_of(
        *(step("ntm", 900, dense, million, heads=heads, **setting) for heads in (1, 4)),
        *(step("sam", ms, "native", million, heads=heads, index="lsh", **setting) for heads, ms in ((1, 1), (4, 0.6))),
    )
    first = headline(analyse([tmp_path])).partition(". ")[0]
    assert first.startswith("At N = 1M the paper's 1,600x over the NTM is not reached: ") == said
    if said:  # with four heads it is, within the tenth that a claim allows
        assert first.endswith("is 900x [882, 918] as fast as ntm (training, batch 8, 10 steps, memory full, 1 head)")
