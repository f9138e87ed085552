"""Check the arguments of a native operator and run it."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from mann_bench.kernels.native import build, call
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.reference.lru_ring import LARGEST

BYTES_A_THREAD = 2**18  # less work is done before a second thread has started
NAMES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}


class Kind(NamedTuple):
    """What the checks of a tensor look at: calls with arguments of the same kinds need be checked but once."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> "Kind":
        """Take it from a tensor."""
        return cls(tensor.shape, tensor.dtype, tensor.device)


class Call:
    """One call of an operator; its dtypes and device are those of `real` and of the memory rows `store`."""

    def __init__(self, op: str, real: Tensor | Kind, store: Tensor | Kind | None = None) -> None:
        store = real if store is None else store
        self.op, self.real, self.store, self.device = op, real.dtype, store.dtype, store.device
        which = Build(NAMES.get(self.real, ""), NAMES.get(self.store, ""))
        if which.real not in build.REALS or which.store not in (which.real, "bfloat16"):
            wanted = f"expected numbers in {' or '.join(build.REALS)} and memory rows in the same or bfloat16"
            raise ValueError(f"{op}: {wanted}, got {self.real} and {self.store}")
        self.which = which

    def expect(self, name: str, tensor: Tensor | Kind, dtype: torch.dtype, **sizes: int | None) -> torch.Size:
        """Return the shape of a tensor; ValueError unless dtype, device and shape (letter to size, None: any) are as expected."""
        shape, expected = tensor.shape, tuple(sizes.values())
        fits = shape == expected or (len(shape) == len(expected) and all(e in (None, s) for e, s in zip(expected, shape, strict=True)))
        if fits and tensor.dtype is dtype and tensor.device == self.device:
            if max(shape) > LARGEST:
                raise ValueError(f"{self.op}: {name}: expected at most {LARGEST} of anything (row numbers are int32), got {list(shape)}")
            return shape
        letters = ", ".join(letter if size is None else f"{letter} = {size}" for letter, size in sizes.items())
        got = f"{tensor.dtype} {list(shape)} on {tensor.device}"
        raise ValueError(f"{self.op}: {name}: expected {dtype} [{letters}] on {self.device}, got {got}")

    def rows_in_range(self, rows: Mapping[str, Tensor], slots: int, *, none: bool = True) -> None:
        """ValueError for a row number that is not below N, or negative unless `none` allows that; a device assertion on a GPU."""
        low = -(2**63) if none else 0
        for name, tensor in rows.items():
            if tensor.device.type == "cuda":  # as torch's indexing does; for an error the host would have to wait
                torch._assert_async(((tensor >= low) & (tensor < slots)).all())
                continue
            bad = build.load(*self.which[:2]).mb_first_bad_row(tensor.data_ptr(), tensor.numel(), low, slots)
            if bad >= 0:
                wanted = f"{'-1 (none) or ' if none else ''}0..{slots - 1}"
                raise ValueError(f"{self.op}: {name}: expected rows {wanted}, got {int(tensor.flatten()[bad])}")

    def run(self, entry: str, sizes: Mapping[str, int], inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        """Call an entry point; it writes to the tensors in `changed`."""
        try:
            call.run_named(entry, self.which, {**changed, **inputs}, sizes)
        except ValueError as error:
            raise ValueError(f"{self.op}: {error}") from None
        increment_version(tuple(changed.values()))


def expect_no_gradient(op: str, **tensors: Tensor) -> None:
    """ValueError if an operation without a gradient would have to be differentiated."""
    for name, tensor in tensors.items():
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{op}: {name}: expected a tensor without gradient (it works in place), got requires_grad=True; call it under "
                "torch.no_grad(), or pass tensor.detach()"
            )


def threads_for(work_bytes: int) -> int:
    """Choose the CPU threads for a call that moves so many bytes."""
    return max(1, min(torch.get_num_threads(), work_bytes // BYTES_A_THREAD))
