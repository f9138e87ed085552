"""Speed-up, memory ratio and crossover of planted curves."""

import numpy as np
import pytest

from mann_bench.data.errors import UsageError
from mann_bench.reports.analysis.ratios import crossovers, ratios
from mann_bench.reports.analysis.scaling import growths
from mann_bench.reports.data.frame import find_baseline, load_frame, without_run
from mann_bench.reports.data.quantity import TIME
from tests.support.results import make_result

SIZES = [64, 256, 1024]


def curves(sam_ms, ntm_ms):
    sam = [make_result("sam", n, ms=ms, per_step=100) for n, ms in zip(SIZES, sam_ms, strict=True)]
    return [*sam, *(make_result("ntm", n, ms=ms, per_step=n * 10) for n, ms in zip(SIZES, ntm_ms, strict=True))]


def crossover(frame):
    return crossovers(frame, growths(frame, TIME))[0]


def test_ratio_and_its_interval(frame_of):
    found = ratios(frame_of(*curves([1, 1, 1], [0.5, 2, 8])))
    assert [r.slots for r in found] == SIZES
    assert found[2].speedup == pytest.approx(8)
    assert found[2].speedup_low == pytest.approx(8 * 0.99 / 1.01)
    assert found[2].tape_ratio == pytest.approx(102.4)


@pytest.mark.parametrize(("own", "twin"), [(0.0, 100.0), (100.0, 0.0), (0.0, 0.0)])
def test_bytes_of_which_one_side_has_none_have_no_ratio(frame_of, own, twin):
    (ratio,) = ratios(frame_of(make_result("sam", per_step=own), make_result("ntm", per_step=twin)))
    assert ratio.tape_bytes == (own, twin)
    assert ratio.tape_ratio is None


def test_crossover_between_sizes(frame_of):
    found = crossover(frame_of(*curves([1, 1, 1], [0.5, 2, 8])))
    assert found.slots == pytest.approx(128)
    assert 120 < found.low < 128 < found.high < 136
    assert found.text.startswith("from N = 128 [12")


def test_a_crossover_that_noise_decides_has_a_wide_interval(frame_of):
    found = crossover(frame_of(*curves([1, 1, 1], [0.5, 1.001, 8])))
    assert found.slots < 256
    assert found.high > 256


def test_always_or_never_faster(frame_of):
    assert "faster at every N measured, 64 to 1k" in crossover(frame_of(*curves([1, 1, 1], [2, 3, 4]))).text
    assert crossover(frame_of(*curves([2, 2, 2], [3, 1, 1]))).text == "not faster at any N measured, 64 to 1k"


def test_expected_crossover_beyond_what_was_measured(frame_of):
    found = crossover(frame_of(*curves([3, 3, 3], [0.1 + n / 1000 for n in SIZES])))
    assert np.isinf(found.slots)
    assert found.expected is not None
    at, low, high = found.expected
    assert at == pytest.approx(2900, rel=0.02)
    assert low < 2900 < high
    assert "the fitted curves cross near 2.83k [" in found.text
    assert found.text.endswith(", not measured")


def test_other_settings_are_not_compared(frame_of):
    found = ratios(frame_of(make_result("sam", 64), make_result("ntm", 64, mode="infer"), make_result("lstm", 64)))
    assert found == []


def test_a_native_kernel_is_held_against_the_plain_one(frame_of):
    plain = [make_result("sam", n, ms=4, kernels="torch") for n in SIZES]
    native = [make_result("sam", n, ms=1, kernels="native") for n in SIZES]
    native = [r.model_copy(update={"backend": r.backend.model_copy(update={"kernels": "native"})}) for r in native]
    found = ratios(frame_of(*plain, *native))
    assert [(r.subject, r.twin, round(r.speedup)) for r in found] == [("sam native", "sam torch", 4)] * 3


def test_a_sparse_model_in_torch_is_held_against_dense_ones_in_torch(frame_of):
    def cases(model, kernels):
        made = [make_result(model, n, kernels=kernels) for n in SIZES]
        return [r.model_copy(update={"backend": r.backend.model_copy(update={"kernels": kernels})}) for r in made]

    sparse, native, plain = cases("sam", "torch"), cases("ntm", "native"), cases("ntm", "torch")
    with_both = {(r.subject, r.twin) for r in ratios(frame_of(*sparse, *native, *plain))}
    assert with_both == {("sam", "ntm torch"), ("ntm native", "ntm torch")}
    assert {(r.subject, r.twin) for r in ratios(frame_of(*sparse, *native))} == {("sam", "ntm")}


@pytest.mark.parametrize("model", ["sdm", "pkm", "deltanet", "fast-weight-product-key-memory"])
def test_a_memory_of_today_is_held_against_sam(frame_of, model):
    """By each of SAM's indexes, and by no dense model; where it crosses SAM is said too."""
    live = [make_result("sam", n, ms=4, index="live") for n in SIZES]
    hashed = [make_result("sam", n, ms=ms, index="lsh") for n, ms in zip(SIZES, [0.5, 1, 4], strict=True)]
    frame = frame_of(*(make_result(model, n, ms=2) for n in SIZES), *live, *hashed, make_result("ntm", 64))
    found = [r for r in ratios(frame) if r.subject == model]
    assert {r.twin for r in found} == {"sam live", "sam lsh"}
    assert [round(r.speedup, 3) for r in found if r.twin == "sam lsh"] == [0.25, 0.5, 2]
    (crossing,) = [c for c in crossovers(frame, growths(frame, TIME)) if (c.subject, c.twin) == (model, "sam lsh")]
    assert 256 < crossing.slots < 1024


def test_runs_are_not_compared_across_machines(tmp_path):
    for name, model in (("here", "sam"), ("there", "ntm")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.jsonl").write_text("".join(make_result(model, n).to_line() + "\n" for n in SIZES))
    assert ratios(load_frame([tmp_path / "here", tmp_path / "there"])) == []


def test_sizes_measured_under_other_conditions_are_not_compared(frame_of):
    results = curves([1, 1, 1], [0.5, 2, 8])
    results[-1] = results[-1].model_copy(update={"conditions": 1})
    frame = frame_of(*results)
    assert [r.slots for r in ratios(frame)] == SIZES[:-1]
    assert crossover(frame).last_slots == SIZES[1]


def test_what_was_timed_apart_is_marked(frame_of):
    ids = ["x", "y", "", "x", "z", ""]
    results = [
        result.model_copy(update={"comparison": name or None}) for name, result in zip(ids, curves([1, 1, 1], [2, 2, 2]), strict=True)
    ]
    assert [r.in_turn for r in ratios(frame_of(*results))] == [True, False, None]


def test_a_baseline_takes_the_place_of_every_twin(frame_of):
    mine = [make_result("mine:Memory", n, ms=2) for n in SIZES]
    lstm = [make_result("lstm", n, ms=1.005) for n in SIZES]
    frame = frame_of(*curves([1, 1, 1], [0.5, 2, 8]), *lstm, *mine)
    found = ratios(frame, "sam")
    assert {(ratio.subject, ratio.twin, ratio.verdict) for ratio in found if ratio.slots == 1024} == {
        ("mine:Memory", "sam", "slower"),
        ("ntm", "sam", "slower"),
        ("lstm", "sam", "not decided"),
    }
    assert found[0].subject == "mine:Memory"
    assert find_baseline(frame, "sam") == "sam"
    with pytest.raises(UsageError, match="--baseline: expected one of sam, ntm, lstm, mine:Memory, got 'san'; did you mean 'sam'"):
        find_baseline(frame, "san")


def test_hosts_are_never_paired(frame_of):
    """SAM was measured on one host and NTM on another: there is no ratio, though the conditions have one number."""
    apart = [result.model_copy(update={"host": f"node-{result.case.model}"}) for result in curves([1, 1, 1], [0.5, 2, 8])]
    assert ratios(frame_of(*apart)) == []
    by_size = [result.model_copy(update={"host": f"node{result.case.slots // 256}"}) for result in curves([1, 1, 1], [0.5, 2, 8])]
    frame = frame_of(*by_size)
    assert sorted(ratio.slots for ratio in ratios(frame)) == SIZES
    assert growths(frame, TIME) == {}  # no curve has three sizes of one host
    assert set(map(without_run, frame["curve"])) == {"sam", "ntm"}
    assert all(" on node" in curve for curve in frame["curve"])
    same = [result.model_copy(update={"host": "node1"}) for result in by_size]
    assert len(growths(frame_of(*same), TIME)) == 2
