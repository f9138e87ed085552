"""Predictions before any run."""

import pytest

from mann_bench.data.case import Case
from mann_bench.data.suite import Budget
from mann_bench.measure.predict import predict
from mann_bench.suites.workloads import indexes


def test_dense_grows_and_sparse_does_not():
    def tape(model, slots):
        by_cause = predict(Case(suite="s", model=model, slots=slots, steps=100), Budget()).bytes_by_cause
        assert by_cause is not None
        return by_cause["tape"]

    assert tape("ntm", 2**20) > 500 * tape("ntm", 2**10)
    assert tape("sam", 2**24) == tape("sam", 2**10)


def test_dtype_scales_and_other_peoples_models_are_not_built():
    single = predict(Case(suite="s", model="ntm", slots=1024), Budget()).total_bytes
    double = predict(Case(suite="s", model="ntm", slots=1024, dtype="float64"), Budget()).total_bytes
    assert single is not None
    assert double == 2 * single
    assert predict(Case(suite="s", model="os:abort", slots=1024), Budget()).total_bytes is None
    assert predict(Case(suite="s", model="sam", slots=4), Budget()).total_bytes is None


def test_the_code_of_another_persons_index_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "hostile_index.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    for model in ("sam", "index:query"):
        assert predict(Case(suite="s", model=model, slots=1024, index="hostile_index:Index"), Budget()).total_bytes is None


def seconds(**fields):
    """Of a case that no limit cuts short."""
    case = Case(suite="s", **{"slots": 2**20, "steps": 100, **fields})
    return predict(case, Budget(case_seconds=10**6, timing_seconds=0.1, rounds=1)).seconds


@pytest.mark.parametrize(
    ("few", "all_rows"),
    [
        ({"model": "sam", "index": "lsh"}, {"model": "sam", "index": "exact"}),
        ({"model": "sdnc", "index": "live", "fill": "empty"}, {"model": "sdnc", "index": "live", "fill": "full"}),
        ({"model": "sam", "index": "faiss-ivf"}, {"model": "sam", "index": "exact-scan", "kernels": "torch"}),
        ({"model": "index:query", "index": "lsh"}, {"model": "index:query", "index": "exact-scan"}),
        ({"model": "sdm"}, {"model": "dam"}),
    ],
)
def test_a_step_that_reads_few_rows_is_predicted_to_take_less(few, all_rows):
    assert seconds(**few) < seconds(**all_rows) / 2


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch itself, when it loads its compiler
def test_native_kernels_are_predicted_to_take_less():
    few = {"slots": 256, "steps": 1000}  # so that the start of a process counts little
    for model in ("sam", "ntm", "op:sparse_read"):
        assert seconds(model=model, **few) < seconds(model=model, **few, kernels="torch") / 2
    assert seconds(model="ntm", **few, variant="compiled") == seconds(model="ntm", **few, kernels="torch")
    assert seconds(model="ntm", **few, variant="native-checkpointed") < seconds(model="ntm", **few, variant="checkpointed") / 2


def test_no_row_is_drawn_for_a_prediction(monkeypatch):
    monkeypatch.setattr(indexes, "draw_rows", None)
    case = Case(suite="s", model="index:query", index="exact-scan", slots=2**20, word_size=32)
    assert predict(case, Budget()).bytes_by_cause == {"state": 2**20 * 33 * 4}
