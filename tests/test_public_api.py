"""The names that `import mann_bench` offers, used as a reader of README would use them."""

import subprocess
import sys
from typing import assert_type

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import mann_bench as mb

OWN_MODEL = """
from torch import nn

class Echo(nn.Module):
    def __init__(self, input_size, output_size):
        super().__init__()
        self.out = nn.Linear(input_size, output_size)

    def forward(self, x, state):
        return self.out(x), state
"""


def case(model: str = "lstm", **fields: object) -> mb.Case:
    return mb.Case.model_validate({"suite": "mine", "model": model, "slots": 8, "steps": 4, "hidden": 8, **fields})


def suite(*cases: mb.Case) -> mb.Suite:
    return mb.Suite(name="mine", cases=list(cases), budget=mb.Budget(timing_seconds=0.05, rounds=1, memory="1G"))


def modules_after(code: str) -> set[str]:
    """Modules that a new process has imported after running the code."""
    line = f"import sys\ntry:\n    {code}\nexcept SystemExit: pass\nsys.stderr.write(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True).stderr.split())


def test_import_and_help_import_no_torch():
    """`mann-bench --help`, and with it `import mann_bench`, imports neither torch nor pandas: they take seconds."""
    imported = modules_after("sys.argv = ['mann-bench', '--help']; from mann_bench.cli.app import main; main()")
    assert "mann_bench.cli.run" in imported
    assert not imported & {"torch", "pandas"}


def test_every_public_name_exists():
    for name in mb.__all__:
        assert getattr(mb, name) is not None
        assert name in dir(mb)
    assert mb.api.__all__ == [name for name in mb.__all__ if name not in ("__version__", "models")]
    with pytest.raises(AttributeError, match="no attribute 'run_sweet'"):
        mb.run_sweet  # type: ignore[attr-defined]  # noqa: B018


def test_run_a_suite_and_load_its_results(tmp_path, monkeypatch):
    """A model of the user's own beside a built-in one; a second call measures only what is missing."""
    (tmp_path / "echo_model.py").write_text(OWN_MODEL)
    monkeypatch.chdir(tmp_path)
    stored: list[mb.Result] = []
    mine = suite(case(), case("echo_model:Echo"), case("no_such:Model"))
    results = mb.run_suite(mine, "run", resume=True, on_result=stored.append)  # nothing to continue: a new run
    assert [result.status for result in results] == ["ok", "ok", "error"]
    assert {result.case.model: result.reason for result in results}["no_such:Model"] is not None
    assert stored == results == mb.load_results("run")
    assert (
        mb.run_suite(suite(case(), case("echo_model:Echo"), case("no_such:Model")), "run", resume=True, on_result=stored.append) == results
    )
    assert len(stored) == 3
    with pytest.raises(mb.UsageError, match="another run"):
        mb.run_suite(suite(case()), "run")

    frame = mb.load_frame("run")
    assert_type(frame, pd.DataFrame)
    assert list(frame["model"]) == [result.case.model for result in results]
    assert (frame[frame["status"] == "ok"]["step_ms_median"] > 0).all()


def test_load_a_shipped_suite_and_a_file(tmp_path):
    quick = mb.load_suite("quick")
    assert_type(quick, mb.Suite)
    assert quick.cases
    (tmp_path / "mine.toml").write_text('name = "mine"\n[[sweep]]\nmodels = ["lstm"]\nslots = ["8", "16"]\n')
    assert [case.slots for case in mb.load_suite(tmp_path / "mine.toml").cases] == [8, 16]
    with pytest.raises(mb.UsageError, match="did you mean 'quick'"):
        mb.load_suite("quik")


def test_profile(tmp_path):
    profile = mb.profile(case("sam", kernels="torch"), tmp_path / "profile", memory="1G")
    assert_type(profile, mb.Profile)
    assert {point.direction for point in profile.points} == {"forward", "backward"}
    assert (tmp_path / "profile" / "steps.csv").is_file()


def test_profile_of_what_fails_says_why():
    with pytest.raises(mb.MeasurementError, match="No module named 'no_such'") as caught:
        mb.profile(case("no_such:Model"))
    assert caught.value.status == "error"


def test_own_workload():
    """Something to measure that is not a model."""

    class Double(mb.Workload):
        def __init__(self, case: mb.Case) -> None:
            super().__init__(case)
            self.state = torch.ones(case.slots, requires_grad=True)

        def forward(self, steps: int | None = None) -> tuple[Tensor, Tensor]:
            return 2 * self.state, self.state

        def backward(self, y: Tensor) -> None:
            y.sum().backward()

    workload = Double(case())
    workload.run_pass()
    assert workload.state.grad.tolist() == [2.0] * 8


def test_models():
    model = mb.models.SAM(input_size=10, output_size=8, slots=64)
    assert_type(mb.models.SAM, type[mb.models.SAM])
    assert isinstance(model, nn.Module)
    y, _ = model(torch.zeros(3, 2, 10), model.initial_state(batch=2))
    assert y.shape == (3, 2, 8)
