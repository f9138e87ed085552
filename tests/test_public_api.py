"""The public Python interface, as a program uses it."""

import subprocess
import sys

import pytest
import torch

import mann_bench
from mann_bench import (
    Budget,
    Case,
    Measured,
    NotMeasured,
    Suite,
    UsageError,
    Workload,
    load_frame,
    load_results,
    load_suite,
    models,
    profile,
    run_suite,
)

SMALL = {"suite": "mine", "slots": 16, "steps": 4, "hidden": 8, "word_size": 8}


def test_every_public_name_exists():
    assert all(getattr(mann_bench, name) is not None for name in mann_bench.__all__)
    assert set(mann_bench._MODULES) | {"models", "__version__"} == set(mann_bench.__all__) == set(dir(mann_bench))
    with pytest.raises(AttributeError, match="no attribute 'load_suit'"):
        mann_bench.load_suit  # type: ignore[attr-defined]  # noqa: B018


def test_every_public_name_is_documented():
    assert all(getattr(mann_bench, name).__doc__ for name in mann_bench.__all__ if name != "__version__")


@pytest.mark.parametrize("program", ["import mann_bench", "import mann_bench.cli.app", "from mann_bench import Case, Suite, load_suite"])
def test_what_needs_no_torch_does_not_import_it(program):
    heavy = "assert not {'torch', 'pandas'} & set(sys.modules), 'imported'"
    done = subprocess.run([sys.executable, "-c", f"import sys\n{program}\n{heavy}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_suite_to_data_frame(tmp_path):
    cases = [Case(model=model, **SMALL) for model in ("lstm", "sam")]
    suite = Suite(name="mine", cases=cases, budget=Budget(timing_seconds=0.05, rounds=1))
    shown: list[Measured | NotMeasured] = []
    results = run_suite(suite, tmp_path / "run", on_result=shown.append)
    assert [result.status for result in results] == ["ok", "ok"]
    assert shown == results
    assert load_results(tmp_path / "run") == results == run_suite(suite, str(tmp_path / "run"), resume=True)
    frame = load_frame(tmp_path / "run")
    assert list(frame["model"]) == ["lstm", "sam"]
    assert (frame["step_ms_median"] > 0).all()
    assert len(load_frame([tmp_path / "run", str(tmp_path / "run")])) == 4
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        run_suite(suite, tmp_path / "run")


def test_shipped_suite():
    assert "sam" in {case.model for case in load_suite("quick").cases}


@pytest.mark.slow  # tests/measure/test_profile.py looks at what it writes
def test_profile(tmp_path):
    case = Case(model="sam", **SMALL)
    result = profile(case, tmp_path / "profile")
    assert result.case == case
    assert {phase.direction for phase in result.phases} == {"forward", "backward"}
    assert (tmp_path / "profile" / "profile.json").is_file()


def test_profile_that_fails(tmp_path):
    with pytest.raises(RuntimeError, match="no_such_module"):
        profile(Case(model="no_such_module:Model", **SMALL), tmp_path / "profile")


def test_workload_of_ones_own():
    class Doubling(Workload):
        def forward(self, steps=None):
            return 2 * torch.ones(steps or self.case.steps), None

    work = Doubling(Case(model="lstm", mode="infer", **SMALL))
    work.run_pass()
    assert work.forward(3)[0].tolist() == [2.0, 2.0, 2.0]


def test_models():
    model = models.SAM(input_size=5, output_size=3, slots=16, word_size=8, heads=1, reads=2, hidden=8)
    y, _ = model(torch.zeros(4, 2, 5), None)
    assert y.shape == (4, 2, 3)
