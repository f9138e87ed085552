"""The kernels' own clocks: every phase has a time, their sum is at most the time that passed, and results do not change."""

import time

import pytest
import torch

from mann_bench.kernels.native import build
from mann_bench.kernels.native.clocks import PHASES, Clocks, clocked
from mann_bench.measure.trace import REST
from mann_bench.models import SAM, SDNC
from mann_bench.models.phases import PHASES as NAMES

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")

FORWARD = {"controller", "addressing", "search", "write", "read", "rest"}
BACKWARD = {"controller", "read", "write", "rollback", "rest"}


def run(model, batch, steps):
    torch.manual_seed(0)
    y, _ = model(torch.randn(steps, batch, 3), model.initial_state(batch, fill="full"))
    return [y, *torch.autograd.grad(y.sum(), list(model.parameters()))]


def test_phases_have_the_names_of_profiles():
    assert set(PHASES) <= {*NAMES, REST}


@pytest.mark.parametrize(("batch", "steps"), [(1, 3), (5, 40)])
@pytest.mark.parametrize(("kind", "index", "more"), [(SAM, "exact", set()), (SAM, "lsh", set()), (SDNC, "exact", {"link"})])
def test_a_pass_under_clocks(kind, index, more, batch, steps):
    model = kind(input_size=3, output_size=2, hidden=20, slots=300, word_size=16, heads=3, reads=2, index=index, kernels="native")
    expected = run(model, batch, steps)
    began = time.perf_counter_ns()
    with clocked() as clocks:
        found = run(model, batch, steps)
    passed_ns = time.perf_counter_ns() - began
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert [direction for direction, _ in clocks.calls] == ["forward", "backward"]
    spent = clocks.spent_ns(torch.get_num_threads())
    assert set(spent) == {("forward", phase) for phase in FORWARD | more} | {("backward", phase) for phase in BACKWARD}
    assert 0 < sum(spent.values()) <= passed_ns
    run(model, batch, steps)  # none are kept any more
    assert len(clocks.calls) == 2


def test_blocks_side_by_side():
    """With three batch tiles on two threads, the wall-clock time is half of the sum; the second call took no time."""
    clocks = Clocks()
    one = clocks.start("forward", 4, torch.device("cpu"))["clocks"]
    clocks.start("forward", 4, torch.device("cpu"))
    one[[0, 1, 3], PHASES.index("read")] = 10
    one[[0, 1, 3], -1] = 99
    assert clocks.spent_ns(2) == {("forward", "read"): 30 / 2 / 2}
    assert clocks.spent_ns(100) == {("forward", "read"): 10 / 2}
