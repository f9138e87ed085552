"""Whatever the cases of a run or comparison differ in, their names tell it, on every surface."""

import io
import json
from typing import Any, cast

import pytest
from rich.console import Console

from mann_bench.data.case import Case
from mann_bench.data.labels import Labels
from mann_bench.data.suite import Suite
from mann_bench.reports.compare.comparison import compare_results, listed
from mann_bench.reports.compare.display import table_row
from mann_bench.reports.compare.limits import parse_limits, violations
from mann_bench.reports.data.frame import load_frame
from mann_bench.run import session
from tests.support.results import make_result

OTHERS: dict[str, Any] = {
    **{"model": "ntm", "variant": "compiled", "kernels": "native", "index": "lsh", "slots": 128, "word_size": 8, "heads": 2, "reads": 2},
    **{"hidden": 50, "batch": 2, "steps": 20, "input_size": 12, "fill": "empty", "dtype": "float64", "device": "cuda", "mode": "infer"},
    **{"threads": 2, "seed": 1, "options": {"erase": "gated"}},
}
FIELDS = sorted(set(Case.model_fields) - {"suite"})


def pair(field):
    """Two results whose cases differ in one field."""
    changes = {field: OTHERS[field]}
    model, slots = changes.pop("model", "sam"), changes.pop("slots", 64)
    return [make_result("sam", 64), make_result(model, slots, **changes)]


def test_fields_are_those_of_a_case():
    assert sorted(OTHERS) == FIELDS


@pytest.mark.parametrize("field", FIELDS)
def test_labels_and_what_shows_them(field):
    results = pair(field)
    cases = [result.case for result in results]
    label = Labels(cases)
    assert len({label(case) for case in cases}) == 2
    comparisons, _, _ = compare_results(results, [make_result(ms=2.0, **r.case.model_dump()) for r in results])
    assert len({table_row(each, 0.05)[0] for each in comparisons}) == 2
    failed = [make_result(status="error", **result.case.model_dump()) for result in results]
    broken, _, _ = compare_results(results, failed)
    assert len(set(violations(broken, parse_limits(["slower:5%"])))) == 2
    _, only_before, _ = compare_results([*results, make_result("own")], [make_result("own")])
    assert len(set(only_before)) == 2


@pytest.mark.parametrize("field", FIELDS)
def test_progress_and_report(field, tmp_path, monkeypatch):
    results = pair(field)
    shown = io.StringIO()

    class Folder:
        records, finished, results_path = (), (), "results.jsonl"

        def close(self):
            pass

    def run_suite(suite, folder, announce):
        for result in results:
            announce(result.case, "timing")
            yield result

    monkeypatch.setattr(session, "run_suite", run_suite)
    monkeypatch.setattr(session, "predicted_seconds", lambda suite, finished: {})  # `sam-compiled` does not exist
    suite = Suite(name="s", cases=[result.case for result in results])
    session.run_and_store(suite, cast(Any, Folder()), Console(file=shown, width=200, force_terminal=False))
    lines = [line.partition("] ")[2] for line in shown.getvalue().splitlines() if line.startswith("[")]
    assert len(set(lines)) == 2, lines
    (tmp_path / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    frame = load_frame([tmp_path])
    assert len(set(zip(frame["setting"], frame["curve"], frame["slots"], strict=True))) == 2


def test_plan_shows_each_field_that_differs(call, tmp_path):
    axes = {name: [getattr(Case(suite="s", model="sam", slots=64), name), OTHERS[name]] for name in ("heads", "seed", "threads", "hidden")}
    text = "".join(f"{name} = {json.dumps(values)}\n" for name, values in axes.items())
    (tmp_path / "s.toml").write_text(f'name = "s"\n[[sweep]]\nmodels = ["sam"]\nslots = ["64"]\n{text}')
    rows = [line for line in call("plan", tmp_path / "s.toml").stdout.splitlines() if "sam" in line]
    assert len(rows) == len(set(rows)) == 2 ** len(axes)


def test_what_is_the_same_is_not_shown():
    cases = [make_result("sam", 2**20, heads=2, threads=threads).case for threads in (1, 4)]
    assert [Labels(cases)(case) for case in cases] == ["sam N=1M train threads=1", "sam N=1M train threads=4"]
    assert Labels(cases[:1])(cases[0]) == "sam N=1M train"


def test_a_long_list_of_cases_is_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(5020)]).endswith("18, 19 and 5,000 more")
