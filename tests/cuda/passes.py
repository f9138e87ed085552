"""One training pass of a sparse model, with everything that tests compare. As a program, it runs small passes for compute-sanitizer."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mann_bench.models import SAM, SDNC
from mann_bench.models.sparse.memory import norms_in_blocks
from mann_bench.models.state import initial_rows

SIZES: dict[str, Any] = {"input_size": 3, "output_size": 2}


@dataclass
class Found:
    """Outputs, states and gradients by name, on the CPU."""

    numbers: dict[str, Tensor]
    order: Tensor  # of last access, after the pass
    memory: Tensor  # after the pass


def run_pass(model: Any, device: torch.device | str, batch: int, steps: int, *, fill: str = "full", seed: int = 0) -> Found:
    """Run forward from a seeded start, and backward from outputs and last states, twice; assert that both restore the memory exactly."""
    model = model.to(device)
    generator = torch.Generator().manual_seed(seed)
    dtype = model.output.weight.dtype
    x = torch.randn(steps, batch, model.controller.input_size - model.heads * model.word_size, generator=generator, dtype=dtype).to(device)
    x.requires_grad_()
    state = state_as_on_the_cpu(model, batch, fill, seed)
    rows = state.memory.rows
    start = [tensor.clone() for tensor in (rows.memory, rows.norms, rows.ring.last)]
    runs = []
    for _ in range(2):
        y, after = model(x, state)
        order, memory = rows.ring.order().cpu(), rows.memory.cpu().clone()  # on a CPU `.cpu()` is the tensor that backward rolls back
        outputs = [y, after.controller.cell, after.controller.reads, after.memory.weights]
        loss = sum((output * torch.linspace(-1, 1, output.numel(), device=device, dtype=dtype).view_as(output)).sum() for output in outputs)
        names, leaves = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, [x, *leaves])
        for old, now in zip(start, (rows.memory, rows.norms, rows.ring.last), strict=True):
            assert torch.equal(old, now)
        named = dict(zip(("y", "cell", "reads", "weights", "grad x", *names), [*outputs, *gradients], strict=True))
        runs.append(Found({name: tensor.detach().cpu() for name, tensor in named.items()}, order, memory))
    for name, tensor in runs[0].numbers.items():
        assert torch.equal(tensor, runs[1].numbers[name]), f"{name}: two passes from the same start differ"
    return runs[0]


def state_as_on_the_cpu(model: Any, batch: int, fill: str, seed: int) -> Any:
    """`model.initial_state` with the rows that a CPU draws for the seed; norms and index are made on the model's device."""
    state = model.initial_state(batch)
    rows = state.memory.rows
    if fill == "full":
        rows.memory.copy_(initial_rows(batch, model.slots, model.word_size, "full", seed, "cpu", rows.memory.dtype))
        rows.norms.copy_(norms_in_blocks(rows.memory, rows.norms.dtype))
        rows.num_candidates = model.slots
        rows.index.build(rows)
    return state


def assert_alike(expected: Found, got: Found, tolerance: float) -> None:
    """Assert that the relative RMS error of each tensor is small and that the order of access is equal."""
    for name, tensor in expected.numbers.items():
        error = (tensor - got.numbers[name]).double().square().mean().sqrt() / tensor.double().square().mean().sqrt().clamp_min(1e-12)
        assert error <= tolerance, f"{name}: relative RMS {error:.2g} > {tolerance}"
    torch.testing.assert_close(expected.memory, got.memory, rtol=0, atol=tolerance)
    assert torch.equal(expected.order, got.order)


def main() -> None:
    """Run every kernel once at a small size."""
    for kind, options in ((SAM, {}), (SAM, {"write_heads": 1, "index": "live", "word_size": 5}), (SDNC, {"link_entries": 3})):
        torch.manual_seed(0)
        model = kind(**{**SIZES, "hidden": 17, "slots": 41, "heads": 2, "reads": 3, "kernels": "native", **options})
        run_pass(model, "cuda", batch=3, steps=4)
        state = model.initial_state(3, fill="full")
        _, after = model(torch.randn(4, 3, 3, device="cuda"), state)
        after.rollback()
    torch.cuda.synchronize()
    print("done")


if __name__ == "__main__":
    main()
