"""Predictions before any run."""

from mann_bench.data.case import Case
from mann_bench.data.suite import Budget
from mann_bench.measure.predict import predict


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
