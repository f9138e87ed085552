"""PKM: equal to a softmax over the best of all N slots; sparse gradients of the rows read; a table that is memory, not parameters."""

from typing import Any

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.measure.ledger import owners
from mann_bench.measure.memory import measure_pass
from mann_bench.measure.workload import ModelWorkload
from mann_bench.models import PKM
from tests.support.golden_sdm import all_scores, best_slots

SIZES: dict[str, Any] = {"input_size": 4, "output_size": 3, "hidden": 5, "slots": 16, "word_size": 5, "heads": 2, "reads": 3}


@pytest.mark.parametrize("controller", ["none", "lstm"])
def test_equals_the_equations(controller):
    model = PKM(**SIZES, controller=controller).double()
    x, expected = torch.randn(7, 2, 4, dtype=torch.float64, requires_grad=True), []
    for b in range(2):
        hidden = cell = x.new_zeros(model.hidden)
        reads, outputs = x.new_zeros(2, 5), []
        for x_t in x[:, b]:
            source = x_t
            if controller == "lstm":
                hidden, cell = (part[0] for part in model.controller(torch.cat([x_t, reads.flatten()])[None], (hidden[None], cell[None])))
                source = hidden
            found = []
            for head, query in enumerate(model.interface(source).view(2, 2, 3)):
                scores = torch.cat([model.keys[head, half] @ query[half] for half in range(2)])
                slots = best_slots(scores.detach(), (4, 4), 3)
                found.append(torch.softmax(all_scores(scores, (4, 4))[slots], 0) @ model.values[slots])
            reads = torch.stack(found)
            outputs.append(model.output(torch.cat([hidden, reads.flatten()])))
        expected.append(torch.stack(outputs))
    y, after = model(x)
    torch.testing.assert_close(y, torch.stack(expected, dim=1), rtol=0, atol=1e-12)
    torch.testing.assert_close(after.controller.reads[1], reads)
    tensors = [x, *model.parameters()]
    wanted = torch.autograd.grad(torch.stack(expected, dim=1).square().sum(), tensors)
    for got, gradient in zip(torch.autograd.grad(y.square().sum(), tensors), wanted, strict=True):
        torch.testing.assert_close(got.to_dense() if got.is_sparse else got, gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sparse", [True, False])
def test_ledger(sparse):
    workload = ModelWorkload(Case(suite="s", model="pkm", slots=4096, steps=3, options={"sparse": sparse}))
    table = 4096 * 32 * 4
    assert sum(owners(workload)["memory"].values()) == table
    ledger, predicted = measure_pass(workload).ledger(), ModelWorkload.predicted_bytes(workload.case)
    assert ledger["memory"] == predicted["memory"] == table
    assert (ledger["gradients"] > table) == (predicted["gradients"] > table) == (not sparse)  # of those there are at the peak
    assert ledger["gradients"] <= predicted["gradients"] < ledger["gradients"] + 0.02 * table
    assert abs(ledger["unattributed"]) < 0.01 * table


def test_bad_key_size():
    with pytest.raises(ValueError, match="key_size: expected an even number, for two halves, got 5"):
        PKM(**SIZES, key_size=5)
