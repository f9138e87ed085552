"""What is run for a case: passes of training or inference of a model over a task, or of whatever else a suite measures.

A name decides: `op:NAME` and `index:NAME` are workloads of the suites (`mann_bench.data.registry.KINDS`), every other name is a model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.data.case import Case
from mann_bench.data.registry import MODEL_TASK, find_model, import_target
from mann_bench.kernels.index import Exact, Index, recall_of
from mann_bench.models.sparse import native

SMALL_SLOTS = 97  # prime: no size of a fast path divides it
SMALL_STEPS = 7


class Workload(ABC):
    """A case ready to run; built, gated, measured and timed alike whatever it is. `state` is what outlives a pass."""

    state: Any = None

    def __init__(self, case: Case) -> None:
        self.case = case
        self.dtype: torch.dtype = getattr(torch, case.dtype)

    @classmethod
    def names(cls) -> list[str]:
        """What may follow the colon in a case's `model`."""
        return []

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int] | None:
        """Bytes of one pass by cause before any of it is built, or None if that cannot be said."""
        return None

    @classmethod
    def moved_bytes(cls, case: Case) -> int | None:
        """Bytes that a step must move, where that is known beforehand: with its time the bandwidth achieved."""
        return None

    @property
    def backend(self) -> dict[str, str]:
        """The `kernels` and `index` that run; they may differ from what the case asks for."""
        return {"kernels": "torch", "index": self.case.index}

    @property
    def fallback(self) -> str | None:
        """Why native kernels that were asked for (or `auto`) do not run, or None."""
        return None

    @property
    def twin(self) -> tuple[Case, Case] | None:
        """A small case of this kind and the reference it must agree with; None where this is the reference."""
        case, backend = self.case, self.backend
        if backend["kernels"] == "torch" and backend["index"] in ("exact", "none"):
            return None
        small = case.model_copy(
            update={"slots": min(case.slots, max(SMALL_SLOTS, 2 * case.heads, case.reads)), "steps": SMALL_STEPS, "mode": "train"}
        )
        return small, small.model_copy(update={"kernels": "torch", "index": "exact"})

    def try_step(self) -> None:
        """Run one step; TypeError or ValueError saying what was expected of whatever is run."""
        return None

    def parameters(self) -> dict[str, Tensor]:
        """What receives gradients, by name; the gate gives twins the same values."""
        return {}

    def given(self) -> list[Tensor]:
        """What passes read and no state holds, such as inputs and targets."""
        return []

    @abstractmethod
    def forward(self, steps: int | None = None) -> tuple[Tensor, Any]:
        """One pass forward over the first `steps` steps: (y, state)."""

    def backward(self, y: Tensor) -> None:
        """The rest of a training pass: gradients, and what was changed in place brought back."""
        return None

    def run_pass(self) -> None:
        """What is timed: forward, and for training backward."""
        y, _ = self.forward()
        if self.case.mode == "train":
            self.backward(y)

    def clear(self) -> None:
        """Between passes, not timed."""
        return None

    def outcome(self) -> dict[str, Tensor]:
        """One training pass: all that the gate compares, by name. Outputs and gradients here; whoever changes states adds them."""
        y, _ = self.forward()
        output = y.detach().clone()
        self.backward(y)
        return {"y": output} | {name: p.grad for name, p in self.parameters().items() if p.grad is not None}

    def recall(self) -> float | None:
        """Part of the true nearest rows that is found, for an index; not timed."""
        return None


def make_workload(case: Case) -> Workload:
    """The workload that the case's name stands for; UsageError with near names if there is none."""
    kind: Callable[[Case], Workload] = import_target(f"model {case.model!r}", find_model(case.model).workload)
    return kind(case)


class ModelWorkload(Workload):
    """A model over real task sequences. Sparse models keep one state: training rolls it back, inference goes on from the state returned."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        torch.manual_seed(case.seed)
        self.model: Any = find_model(case.model).build(case).to(case.device, self.dtype)
        begin = getattr(self.model, "initial_state", None)
        self.state = begin(case.batch, fill=case.fill, seed=case.seed) if begin else None
        self.inputs, self.targets, self.mask = self.sequences(case.steps)
        self.share = self.share_of(case.steps)

    @property
    def backend(self) -> dict[str, str]:
        """As the model's own `backend` says, if it has one."""
        return {**super().backend, **getattr(self.model, "backend", {})}

    @property
    def fallback(self) -> str | None:
        """As `models.native` says, for a model that has native kernels."""
        if self.case.kernels == "torch" or not hasattr(self.model, "kernels") or self.backend["kernels"] != "torch":
            return None
        return native.why_not(next(self.model.parameters()), self.case.word_size, getattr(self.model, "index_kind", None))

    def parameters(self) -> dict[str, Tensor]:
        """The model's."""
        return dict(self.model.named_parameters())

    def given(self) -> list[Tensor]:
        """The task's sequences."""
        return [self.inputs, self.targets, self.mask, self.share]

    def sequences(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [T, B, X], targets [T, B, Y] and mask [T, B] of the task."""
        make: Callable[..., tuple[Tensor, Tensor, Tensor]] = import_target("task", MODEL_TASK)
        return make(self.case.batch, steps, self.case.input_size, seed=self.case.seed, device=self.case.device, dtype=self.dtype)

    def try_step(self) -> None:
        """Run one inference pass of one step; TypeError or ValueError saying what a model must return."""
        case = self.case
        # A compiled step is compiled anew for work without gradients, which a training case has no other use for.
        with torch.set_grad_enabled(case.variant == "compiled" and case.mode == "train"):
            returned = self.model(self.inputs[:1], self.state)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(f"model {case.model!r}: expected forward(x, state) to return (y, state), got {type(returned).__name__}")
        y, state = returned
        shape = (1, case.batch, case.output_size)
        if not isinstance(y, Tensor) or tuple(y.shape) != shape:
            got = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"model {case.model!r}: expected y of shape [T, B, Y] = {list(shape)}, got {got}")
        if state is not None:
            self.state = state.detach() if case.variant == "compiled" else state

    def forward(self, steps: int | None = None) -> tuple[Tensor, Any]:
        """The model over the first `steps` steps: (y, state)."""
        x = self.inputs if steps is None else self.inputs[:steps]
        if self.case.mode == "train":
            return self.model(x, self.state)
        with torch.no_grad():
            y, self.state = self.model(x, self.state)
        return y, self.state

    def share_of(self, steps: int) -> Tensor:
        """What each bit [T, B, 1] counts for in the mean over the bits asked for in the first `steps` steps."""
        mask = self.mask[:steps].unsqueeze(-1)
        return mask / (mask.sum() * self.targets.shape[2]).clamp_min(1)

    def loss(self, y: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the bits asked for."""
        steps = len(y)
        share = self.share if steps == len(self.share) else self.share_of(steps)
        return functional.binary_cross_entropy_with_logits(y, self.targets[:steps], share, reduction="sum")

    def recall(self) -> float | None:
        """Of a sparse model's index on its memory; None where the search is exact or there is nothing to find yet."""
        rows: Any = getattr(getattr(self.state, "memory", None), "rows", None)
        index = getattr(rows, "index", None)
        if not isinstance(index, Index) or isinstance(index, Exact) or rows.live < self.case.reads:
            return None
        return recall_of(index, rows, self.case.heads, self.case.reads, torch.Generator().manual_seed(self.case.seed))

    def backward(self, y: Tensor) -> None:
        """Of the loss."""
        self.loss(y).backward()

    def clear(self) -> None:
        """Gradients are freed, for every model alike."""
        self.model.zero_grad(set_to_none=True)
