"""What runs for a case: passes of training or inference of a model over a task, or of an operation or index.

The case's `model` decides: `op:NAME` and `index:NAME` are workloads of the suites (`KINDS` of `mann_bench.data.registry`), all other names
are models.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.data.case import Case
from mann_bench.data.registry import BENCHMARK_TASK, BUILT_INS, GRAPH, GRAPH_WORKLOAD, NATIVE_CHECKPOINTED, find_model, import_target
from mann_bench.data.result import Floor
from mann_bench.kernels.index import Exact, Index, recall_of
from mann_bench.machine.processor import last_level_cache_bytes
from mann_bench.models import LSTM, MANN, SAM
from mann_bench.models import floor as dense_floor
from mann_bench.models.mann import DenseMANN
from mann_bench.models.state import State

SMALL_SLOTS = 97  # N of the correctness gate, or the next that the model takes; prime, so that no block size of a fast path divides it
SMALL_STEPS = 7  # T of the correctness gate


class Workload(ABC):
    """A case that is ready to run. All kinds are built, verified, measured and timed in the same way.

    Attributes:
        state: what lives on between passes.
        ledger_causes: causes of the tensors in a `state` that is a mapping, by name (`measure/ledger.py`).
    """

    state: object = None
    ledger_causes: ClassVar[Mapping[str, str]] = {}

    def __init__(self, case: Case) -> None:
        self.case = case
        self.dtype: torch.dtype = getattr(torch, case.dtype)

    @classmethod
    def names(cls) -> list[str]:
        """The names that may follow the colon in a case's `model`."""
        return []

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int] | None:
        """Bytes of one pass by cause, computed without building it; None if there is no formula."""
        return None

    @classmethod
    def moved_bytes(cls, case: Case) -> int | None:
        """Bytes that one step must move at least, or None if unknown. Divided by its time they give the bandwidth achieved."""
        return None

    @property
    def backend(self) -> dict[str, str]:
        """The `kernels` and `index` that run; they may differ from what the case asks for."""
        return {"kernels": "torch", "index": self.case.index}

    @property
    def fallback(self) -> str | None:
        """Why native kernels do not run although the case asks for them (or for `auto`), or None."""
        return None

    @property
    def remarks(self) -> list[str]:
        """Sentences on what runs beyond `backend`; they are stored as warnings."""
        return []

    @property
    def twin(self) -> tuple[Case, Case] | None:
        """The gate's pair of cases: this one at a small size, and its reference. None if this workload is the reference."""
        backend = self.backend
        if backend["kernels"] == "torch" and backend["index"] in ("exact", "none"):
            return None
        small = self.small_case.model_copy(update={"mode": "train"})
        reference = {"kernels": "torch", "index": "exact"}
        if small.variant == NATIVE_CHECKPOINTED:  # which is of native kernels only
            reference["variant"] = "plain"
        return small, small.model_copy(update=reference)

    @property
    def small_case(self) -> Case:
        """This case at the size of the gate."""
        case, entry = self.case, find_model(self.case.model)
        least = entry.slots_from(max(SMALL_SLOTS, 2 * case.heads), case.reads, case.options)
        return case.model_copy(update={"slots": min(case.slots, least), "steps": SMALL_STEPS})

    def smoke_test(self) -> None:
        """Run one step; TypeError or ValueError if what runs does not keep to its interface."""
        return None

    def parameters(self) -> dict[str, Tensor]:
        """The tensors that receive gradients, by name; the gate gives both sides the same values."""
        return {}

    def input_tensors(self) -> list[Tensor]:
        """The tensors that passes read but no state holds, such as inputs and targets."""
        return []

    @abstractmethod
    def forward(self, steps: int | None = None) -> tuple[Tensor, object]:
        """Run forward over the first `steps` steps (all by default); returns (y, state)."""

    def backward(self, y: Tensor) -> None:
        """Run the rest of a training pass: compute gradients and undo in-place changes."""
        return None

    def run_pass(self) -> None:
        """Run what is timed: forward, and in training backward."""
        y, _ = self.forward()
        if self.case.mode == "train":
            self.backward(y)

    def keep_output(self) -> Tensor:
        """Run what `run_pass` runs, and return a copy of its output."""
        y, _ = self.forward()
        output = y.detach().clone()
        if self.case.mode == "train":
            self.backward(y)
        return output

    def drop_results(self) -> None:
        """Free what the last pass returned and this workload keeps for its caller; a caller's copy is no leak."""
        return None

    def clear(self) -> None:
        """Free what a pass leaves behind, such as gradients; called between passes, not timed."""
        return None

    def release(self) -> None:
        """Free what is kept only to repeat passes, such as a captured graph; called before memory is measured."""
        return None

    def observables(self) -> dict[str, Tensor]:
        """Run one training pass and return what the gate compares, by name: here outputs and gradients; subclasses add states."""
        y, _ = self.forward()
        output = y.detach().clone()
        self.backward(y)
        return {"y": output} | self.gradients()

    def gradients(self) -> dict[str, Tensor]:
        """The gradients there are now, by the names of their parameters."""
        return {name: p.grad for name, p in self.parameters().items() if p.grad is not None}

    def recall(self) -> float | None:
        """Share of the true nearest rows that an index finds; None where there is no index. Not timed."""
        return None

    def floor(self) -> Floor | None:
        """What a step cannot avoid moving; None where there is no formula, or no copy to hold against it."""
        return None


def workload_class(case: Case) -> type[Workload]:
    """The class that runs a case; UsageError with similar names if there is none for its `model`."""
    target = GRAPH_WORKLOAD if case.variant == GRAPH else find_model(case.model).workload
    workload: type[Workload] = import_target(f"model {case.model!r}", target)
    return workload


def make_workload(case: Case) -> Workload:
    """Build the workload of a case."""
    return workload_class(case)(case)


class ModelWorkload(Workload):
    """A model on sequences of the benchmark task. Sparse models keep one state: training rolls it back, inference continues from it."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        torch.manual_seed(case.seed)
        self.model = find_model(case.model).build(case).to(case.device, self.dtype)
        initial_state = getattr(self.model, "initial_state", None)
        rows = {"fill": case.fill, "seed": case.seed}
        taken = {name for name in rows if initial_state and takes(initial_state, name)}
        self.state = initial_state(case.batch, **{name: rows[name] for name in taken}) if initial_state else None
        self.fills = initial_state is None or "fill" in taken
        self.inputs, self.targets, self.mask = self.sequences(case.steps)
        self.bit_weights = self.weigh_bits(case.steps)

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """As the model's formula says, for numbers of the case's dtype; the model is built on torch's meta device, but no peer is."""
        entry = find_model(case.model)
        if entry.package:
            of_peer: dict[str, int] = getattr(entry.load(), "predicted_bytes")(case)  # noqa: B009  # a `Peer`
            return of_peer
        if not entry.uses_index and (case.device != "cpu" or case.dtype == "bfloat16"):
            case = case.model_copy(update={"kernels": "torch"})  # a dense model on the meta device counts as float32 on the CPU
        with torch.device("meta"):
            model = entry.build(case)
        assert isinstance(model, LSTM | MANN)  # no user's model is predicted
        item_bytes: int = getattr(torch, case.dtype).itemsize
        return {cause: size * item_bytes // 4 for cause, size in model.memory_bytes(case.batch, case.steps, case.mode).items()}

    @property
    def backend(self) -> dict[str, str]:
        """Backend of the model where it names one."""
        return {**super().backend, **getattr(self.model, "backend", {})}

    @property
    def fallback(self) -> str | None:
        """Why a model that has native kernels runs without them, as it says itself in `fallback`."""
        return getattr(self.model, "fallback", None)

    @property
    def remarks(self) -> list[str]:
        own = self.model.remarks(self.case.batch) if isinstance(self.model, SAM) else []
        if self.fills or self.case.fill == "empty":
            return own
        return [*own, "initial_state takes no argument fill: the memory starts as the model makes it, not full of random rows"]

    def parameters(self) -> dict[str, Tensor]:
        return dict(self.model.named_parameters())

    def input_tensors(self) -> list[Tensor]:
        return [self.inputs, self.targets, self.mask, self.bit_weights]

    def sequences(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sample the task: inputs [T, B, X], targets [T, B, Y] and mask [T, B]."""
        make: Callable[..., tuple[Tensor, Tensor, Tensor]] = import_target("task", BENCHMARK_TASK)
        return make(self.case.batch, steps, self.case.input_size, seed=self.case.seed, device=self.case.device, dtype=self.dtype)

    def smoke_test(self) -> None:
        """Run one step; TypeError or ValueError if the model does not return (y, state) with y of shape [1, B, Y]."""
        case = self.case
        # Without gradients, as otherwise, a compiled step would be compiled once more, which a training case does not need.
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

    def forward(self, steps: int | None = None) -> tuple[Tensor, object]:
        x = self.inputs if steps is None else self.inputs[:steps]
        if self.case.mode == "train":
            y, state = self.model(x, self.state)
            return y, state
        with torch.no_grad():
            y, self.state = self.model(x, self.state)
        return y, self.state

    def observables(self) -> dict[str, Tensor]:
        return super().observables() if self.case.mode == "train" else self.second_pass()

    def second_pass(self) -> dict[str, Tensor]:
        """What a pass leaves that follows one over other inputs, by name: its output; gradients in training, else the state."""
        with self.other_inputs():
            self.run_pass()
            self.clear()
        output = self.keep_output()
        if self.case.mode == "train":
            return {"y": output} | self.gradients()
        states = self.state.tensors() if isinstance(self.state, State) else []
        return {"y": output} | {f"state {number}": tensor for number, tensor in enumerate(states)}

    @contextmanager
    def other_inputs(self) -> Iterator[None]:
        """Have other values in the tensors of the inputs for a while."""
        before = self.inputs.clone()
        try:
            self.inputs.neg_().add_(1)
            yield
        finally:
            self.inputs.copy_(before)

    def weigh_bits(self, steps: int) -> Tensor:
        """Weight [T, B, 1] of each bit in the mean over the target bits of the first `steps` steps."""
        mask = self.mask[:steps].unsqueeze(-1)
        return mask / (mask.sum() * self.targets.shape[2]).clamp_min(1)

    def loss(self, y: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the target bits."""
        steps = len(y)
        weights = self.bit_weights if steps == len(self.bit_weights) else self.weigh_bits(steps)
        return functional.binary_cross_entropy_with_logits(y, self.targets[:steps], weights, reduction="sum")

    def recall(self) -> float | None:
        """Recall of a sparse model's index on its memory; None if the search is exact or fewer than K rows are written."""
        rows = getattr(getattr(self.state, "memory", None), "rows", None)
        index = getattr(rows, "index", None)
        if rows is None or not isinstance(index, Index) or isinstance(index, Exact) or rows.num_candidates < self.case.reads:
            return None
        return recall_of(index, rows, self.case.heads, self.case.reads, torch.Generator().manual_seed(self.case.seed))

    def floor(self) -> Floor | None:
        case = self.case
        if case.device != "cpu" or case.model not in BUILT_INS or not isinstance(self.model, DenseMANN):
            return None
        moved = dense_floor.pass_bytes(self.model, case.batch, case.steps, train=case.mode == "train")
        matrices = dense_floor.matrix_bytes(self.model)
        return Floor(step_bytes=moved / case.steps, matrix_bytes=matrices, cache_bytes=last_level_cache_bytes())

    def backward(self, y: Tensor) -> None:
        torch.autograd.backward(self.loss(y))

    def clear(self) -> None:
        self.model.zero_grad(set_to_none=True)


def takes(function: Callable[..., object], name: str) -> bool:
    """Whether a function takes an argument of that name; yes if its arguments cannot be known."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
