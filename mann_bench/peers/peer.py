"""What all peers have in common: what they need, why they cannot run here, and the projections around a layer of another package.

x [T, B, X] -> project_in -> [T, B, D] -> their layer -> [T, B, E] -> project_out -> y [T, B, Y]
"""

import importlib
import importlib.util
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mann_bench.data.case import Case
from mann_bench.kernels.index import Unavailable


class Peer:
    """A memory whose code is another package's.

    Attributes:
        package: what pip installs.
        needs_modules: top-level modules that must be there.
        dtypes: types of numbers that the package computes in.
        devices: kinds of device that it is measured on.
    """

    package: ClassVar[str]
    needs_modules: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    @classmethod
    def why_not(cls, device: str = "cpu", dtype: str = "float32") -> str | None:
        """Why this peer cannot run here, and what to do; None if nothing is known to be in its way. Nothing is imported."""
        missing = [name for name in cls.needs_modules if importlib.util.find_spec(name) is None]
        if missing:
            return f"{cls.package} needs the module {missing[0]!r}, which is not here: pip install 'mann-bench[peers]' (docs/peers.md)"
        if dtype not in cls.dtypes:
            return f"{cls.package} computes in {' or '.join(cls.dtypes)}, got {dtype}"
        if device.partition(":")[0] not in cls.devices:
            return f"{cls.package} is measured on {' or '.join(cls.devices)} only, got {device}"
        return None

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """Bytes of one pass by cause, from the sizes alone, so that a plan needs no package; ValueError if the sizes do not fit.

        What grows with N is counted; the projections and what a step keeps of its vectors are not.
        """
        raise NotImplementedError

    @classmethod
    def imported(cls, module: str, name: str) -> Any:
        """A class or function of the package; Unavailable, with the reason, if it cannot be imported."""
        if reason := cls.why_not():
            raise Unavailable(reason)
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:  # an installed package may fail in any way while it is imported
            raise Unavailable(f"{cls.package} cannot be imported here: {type(error).__name__}: {error}") from error


class PeerLayer(Peer, nn.Module):
    """A layer of another package between two projections.

    Args:
        layer: of the package; takes [B, T, D].
        inner_size: D, and E, the width of what the layer returns.
    """

    def __init__(self, layer: nn.Module, *, input_size: int, inner_size: int, output_size: int) -> None:
        super().__init__()
        self.project_in = projection(input_size, inner_size)
        self.layer = layer
        self.project_out = projection(inner_size, output_size)

    def project(self, x: Tensor) -> Tensor:
        """x [T, B, X] -> [B, T, D], batch first as their layers take it."""
        inner: Tensor = self.project_in(x).transpose(0, 1)
        return inner

    def answer(self, inner: Tensor) -> Tensor:
        """[B, T, D] -> y [T, B, Y]."""
        y: Tensor = self.project_out(inner.transpose(0, 1))
        return y


def projection(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts as those of our own memories without a controller do (`models/projected.py`)."""
    layer = nn.Linear(inputs, outputs)
    std = inputs**-0.5
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(layer.bias)
    return layer


def item_bytes(case: Case) -> int:
    """Bytes of a number of a case."""
    size: int = getattr(torch, case.dtype).itemsize
    return size
