"""CUDA graphs on the CPU: `torch.cuda` as far as captured passes use it.

A capture notes each operation with its tensors, and leaves what was there before as it was and what is new as NaN. A replay runs the
operations on the same tensors, with the numbers of the capture. So what is missing in a captured pass shows as it would on a GPU.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mann_bench.measure.workload import ModelWorkload


class FakeGraphs:
    """In `calls` what was asked, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def device(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def empty_cache(self) -> None:
        self.calls.append("empty cache")

    def Stream(self, name: str) -> "FakeStream":
        return FakeStream("side", self.calls)

    def current_stream(self, name: str) -> "FakeStream":
        return FakeStream("main", self.calls)

    @contextmanager
    def stream(self, stream: "FakeStream") -> Iterator[None]:
        self.calls.append(f"onto {stream.name}")
        yield
        self.calls.append(f"off {stream.name}")

    def CUDAGraph(self) -> "FakeGraph":
        return FakeGraph(self.calls)

    @contextmanager
    def graph(self, graph: "FakeGraph", stream: "FakeStream") -> Iterator[None]:
        self.calls.append(f"capture on {stream.name}")
        with graph:
            yield
        self.calls.append("captured")


def assert_replays_are_plain_passes(captured: ModelWorkload, plain: ModelWorkload, tolerance: float = 0.0) -> None:
    """Assert that outputs, gradients and states are equal, by default to the bit, over other inputs than those of the first replay."""
    for workload in (captured, plain):
        workload.smoke_test()
    for _ in range(2):
        expected, got = plain.second_pass(), captured.second_pass()
        assert list(expected) == list(got)
        assert len(got) > 2
        for name, tensor in expected.items():
            torch.testing.assert_close(got[name], tensor, rtol=tolerance, atol=tolerance, msg=f"{name} differs")
        captured.clear()
        plain.clear()


class FakeStream:
    """A stream that notes whom it waits for."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def wait_stream(self, other: "FakeStream") -> None:
        self.calls.append(f"{self.name} waits for {other.name}")


class FakeGraph(TorchDispatchMode):
    """The operations that run inside a `with`, to be run again."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls
        self.operations: list[tuple[Any, Any, Any, Any, bool]] = []  # with arguments, results, and whether torch computed gradients
        self.born: set[int] = set()  # addresses of storages that were made inside
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # by address: other storages that were changed, and what they held

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        args, kwargs = tree_map(_alias, (tuple(args), dict(kwargs or {})))
        given = {_address(tensor) for tensor in _tensors((args, kwargs))}
        if func._schema.is_mutable:
            for tensor in _tensors((args, kwargs)):
                if _address(tensor) not in self.born and _address(tensor) not in self.before:
                    whole = tensor.new_empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
                    self.before[_address(tensor)] = whole, whole.clone()
        results = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, tree_map(_alias, results), torch.is_grad_enabled()))
        self.born |= {_address(tensor) for tensor in _tensors(results)} - given
        return results

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        for whole, held in self.before.values():
            whole.copy_(held)
        for *_, results, _ in self.operations:
            for tensor in _tensors(results):
                if tensor.is_floating_point() and _address(tensor) in self.born:
                    tensor.fill_(torch.nan)

    def replay(self) -> None:
        self.calls.append("replay")
        for func, args, kwargs, results, gradients in self.operations:
            if any(value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns):
                continue  # a view
            with torch.set_grad_enabled(gradients):  # an LSTM saves other things without them
                new = func(*args, **kwargs)
            if not func._schema.is_mutable:
                for tensor, value in zip(tree_leaves(results), tree_leaves(new), strict=True):
                    if isinstance(tensor, Tensor):
                        tensor.copy_(value)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _alias(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
