"""Variant `graph`: a pass is captured once as a CUDA graph and then replayed, so that the host issues one launch a pass.

A replay runs the captured kernels with the captured sizes on the captured addresses, so all that passes read and leave stays in its place:

- Inputs and targets are the workload's own tensors; other values are copied into them.
- Training begins at the same state each time. Gradients are made in the captured pass; a replay overwrites them and adds nothing to them.
  SAM and SDNC take the memory back in backward, so a replay finds it where the captured pass did.
- Inference ends by copying the new state into the tensors of the old one.
- No pass draws random numbers.

A graph keeps its memory in a pool of its own. In the capture the allocator hands out there what it hands out in a plain pass. So memory is
measured in plain passes, while there is no graph.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.data.registry import GRAPH, find_model
from mann_bench.kernels.index import Unavailable
from mann_bench.measure.workload import ModelWorkload
from mann_bench.models.state import State

WARM_UP_PASSES = 2  # before a capture, in which no kernel can be loaded and no library can set itself up

Place = tuple[object, str, object]  # an object, the name of an attribute of it, and its value
INPUTS = ("inputs", "targets", "bit_weights", "state")  # attributes of a workload that its passes read


def why_no_graph(case: Case) -> str | None:
    """Why a case of variant `graph` can run nowhere, or None."""
    if case.variant != GRAPH:
        return None
    if not case.device.startswith("cuda"):
        return f"{case.name} needs a CUDA device, as it replays a CUDA graph, got {case.device}: give --device cuda, or use {case.model}"
    if find_model(case.model).uses_index and case.mode == "infer":
        return (
            f"{case.name} needs mode train: inference moves the order of last access on, and each replay would begin where the captured "
            f"pass did; use {case.model}"
        )
    return None


@dataclass
class CapturedPass:
    """A graph, its output y, which each replay overwrites, what its workload had as INPUTS, and what was inside the state."""

    graph: torch.cuda.CUDAGraph
    y: Tensor
    inputs: list[object]
    inside: list[Place]

    def fits(self, workload: ModelWorkload) -> bool:
        """Whether a pass of the workload has the sizes of the capture, and reads the same tensors."""
        given = all(getattr(workload, name) is value for name, value in zip(INPUTS, self.inputs, strict=True))
        return given and all(getattr(owner, name) is value for owner, name, value in self.inside)


class GraphWorkload(ModelWorkload):
    """A model whose passes are replayed. Tests set another `cuda`."""

    cuda: ClassVar[Any] = torch.cuda

    def __init__(self, case: Case) -> None:
        if reason := why_no_graph(case):
            raise Unavailable(reason)
        super().__init__(case)
        if find_model(case.model).uses_index and self.backend["kernels"] != "native":
            reason = self.fallback or f"kernels={case.kernels} was given"
            raise Unavailable(
                f"{case.name} needs native kernels, as torch ones have the host wait in each step ({reason}); use {case.model}"
            )
        self.captured: CapturedPass | None = None

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """As without a graph; ValueError where there can be none."""
        if reason := why_no_graph(case):
            raise ValueError(reason)
        return super().predicted_bytes(case)

    @property
    def twin(self) -> tuple[Case, Case]:
        """The small case in its own mode, and plain passes."""
        small = self.small_case
        return small, small.model_copy(update={"variant": "plain", "kernels": "torch", "index": "exact"})

    def forward(self, steps: int | None = None) -> tuple[Tensor, object]:
        """Run a plain forward, after which there is no graph: in inference the state is in other tensors then."""
        self.release()
        return super().forward(steps)

    def run_pass(self) -> None:
        """Replay the pass; capture it before where none is captured or what it was captured with has changed."""
        if self.captured is None or not self.captured.fits(self):
            self.release()
            self.captured = self.capture()
        self.captured.graph.replay()

    def keep_output(self) -> Tensor:
        self.run_pass()
        assert self.captured is not None
        return self.captured.y.clone()

    def clear(self) -> None:
        """Free gradients, but those of a captured pass, which each replay overwrites."""
        if self.captured is None:
            super().clear()

    def release(self) -> None:
        """Give the graph's memory back."""
        if self.captured is not None:
            self.captured = None
            super().clear()
            self.cuda.empty_cache()

    def observables(self) -> dict[str, Tensor]:
        return self.second_pass()

    def capture(self) -> CapturedPass:
        """Warm up on a stream of its own, where no other work is, and capture the pass there."""
        cuda, device = self.cuda, self.case.device
        cuda.empty_cache()  # of what plain passes took on their stream: another stream takes memory of its own
        with cuda.device(device):
            stream = stream_of_captures(cuda.Stream, device)
            stream.wait_stream(cuda.current_stream(device))
            with cuda.stream(stream):
                for _ in range(WARM_UP_PASSES):
                    _, after = self.plain_pass()
                self.require_equal_sizes(after)
                del after
            cuda.current_stream(device).wait_stream(stream)
            graph = cuda.CUDAGraph()
            with cuda.graph(graph, stream=stream):
                y, after = self.plain_pass()
                self.put_back(after)
        return CapturedPass(graph, y, [getattr(self, name) for name in INPUTS], list(places_inside(self.state)))

    def plain_pass(self) -> tuple[Tensor, object]:
        """Run the pass without a graph, on fresh gradients; returns y without its history, and the state after it."""
        super().clear()
        if self.case.mode == "train":
            y, _ = super().forward()
            self.backward(y)
            return y.detach(), self.state  # backward has taken back what forward changed
        with torch.no_grad():
            y, after = self.model(self.inputs, self.state)
        return y, after

    def put_back(self, after: object) -> None:
        """Copy a state into the tensors of the one that passes begin with."""
        if isinstance(after, State) and isinstance(self.state, State) and after is not self.state:
            for new, old in zip(after.tensors(), self.state.tensors(), strict=True):
                old.copy_(new)

    def require_equal_sizes(self, after: object) -> None:
        """Raise Unavailable if a pass leaves a state whose numbers are not those that it began with: a replay would not notice."""
        begin, end = ([(name, value) for _, name, value in places_inside(state) if isinstance(value, int)] for state in (self.state, after))
        for (name, old), (_, new) in zip(begin, end, strict=True):
            if old != new:
                case = self.case
                raise Unavailable(f"{case.name} needs passes of equal sizes, but {name} goes from {old} to {new} in one; use {case.model}")


@functools.cache
def stream_of_captures(make: Callable[[str], torch.cuda.Stream], device: str) -> torch.cuda.Stream:
    """One stream for all captures of a process: libraries keep memory for each stream."""
    return make(device)


def places_inside(state: object) -> Iterator[Place]:
    """Each tensor and each whole number inside a state, and the states inside it."""
    if dataclasses.is_dataclass(state):
        for name, value in vars(state).items():
            if isinstance(value, Tensor | int) or dataclasses.is_dataclass(value):
                yield state, name, value
                yield from places_inside(value)
