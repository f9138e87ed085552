"""Where the time of a short training pass goes: SAM, ten steps, one element, one head, a million slots, of which few rows are live.

Measured by `python -m tests.published.short_pass` on a quiet machine, kept in `docs/results/short-pass.json`, shown by `make numbers`.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from mann_bench.kernels.native import layout
from mann_bench.kernels.sequence import autograd
from mann_bench.machine.environment import fingerprint
from mann_bench.models import SAM
from tests.published.results import RESULTS

FILE = RESULTS / "short-pass.json"
PASSES, WARM_UP = 5000, 500
WHERE = {
    "native": "the two native calls",
    "engine": "torch's backward around that of the pass, and that of the loss",
    "pass": "the pass around its calls: buffers and their places",
    "model": "the model before and after the pass: checks, position, ring",
    "loss": "loss",
    "clear": "clearing the gradients",
}


class Spent:
    """Time inside functions, in microseconds, of the pass that runs."""

    def __init__(self) -> None:
        self.us: dict[str, float] = {}

    def inside(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*arguments: Any) -> Any:
            began = time.perf_counter_ns()
            try:
                return function(*arguments)
            finally:
                self.us[name] = self.us.get(name, 0) + (time.perf_counter_ns() - began) / 1000

        return timed


def passes(count: int) -> list[dict[str, float]]:
    """Microseconds of each part of some passes, by the names of `WHERE`."""
    torch.manual_seed(0)
    model = SAM(input_size=10, output_size=10, slots=2**20, word_size=32, heads=1, reads=4, hidden=100, index="live")
    x, state, spent = torch.randn(10, 1, 10), model.initial_state(1), Spent()
    call, graph = layout.taker, autograd.differentiable
    native = spent.inside("native", call)
    layout.taker = lambda *given: (native if len(given) > 3 else call)(*given)  # type: ignore[assignment]  # given entries, it runs them
    autograd.differentiable = lambda forward, backward, inputs: spent.inside("forward", graph)(
        forward, spent.inside("backward", backward), inputs
    )
    run, loss_of = spent.inside("run", model), spent.inside("loss", lambda y: y.square().mean())
    clear = spent.inside("clear", model.zero_grad)
    found = []
    try:
        for _ in range(count):
            spent.us.clear()
            y, _ = run(x, state)
            loss = loss_of(y)
            clear()
            spent.inside("all backward", loss.backward)()
            us = spent.us
            found.append(
                {
                    "native": us["native"],
                    "engine": us["all backward"] - us["backward"],
                    "pass": us["forward"] + us["backward"] - us["native"],
                    "model": us["run"] - us["forward"],
                    "loss": us["loss"],
                    "clear": us["clear"],
                }
            )
    finally:
        layout.taker, autograd.differentiable = call, graph
    return found


def measure() -> dict[str, object]:
    """Medians over passes, with the machine."""
    torch.set_num_threads(1)
    found = passes(WARM_UP + PASSES)[WARM_UP:]
    facts = fingerprint()
    medians = {name: statistics.median(us[name] for us in found) for name in WHERE}
    return {"cpu": facts["cpu"], "torch": facts["torch"], "git": facts["git"], "us": {name: round(us, 1) for name, us in medians.items()}}


def shares() -> str:
    """The parts, the largest first: `the two native calls 29%, ...`."""
    measured = json.loads(FILE.read_text())
    us: dict[str, float] = measured["us"]
    total = sum(us.values())
    parts = sorted(us.items(), key=lambda part: -part[1])
    return ", ".join(f"{WHERE[name]} {own / total:.0%}" for name, own in parts) + f"; {total:.0f} us in all ({measured['cpu']})"


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure(), indent=1) + "\n")
    print(f"{FILE}: written; call make numbers")
