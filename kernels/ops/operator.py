"""How the arguments of a native operator are checked, and how it is run."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from mann_bench.kernels.native import build, call
from mann_bench.kernels.native.call import Build

BYTES_A_THREAD = 2**18  # less work than this is done before a second thread has started
NAMES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}


class Call:
    """One call of an operator: its number types and device are those of `real` and of the memory rows `store`; checks and runs."""

    def __init__(self, op: str, real: Tensor, store: Tensor | None = None) -> None:
        store = real if store is None else store
        self.op, self.real, self.store, self.device = op, real.dtype, store.dtype, store.device
        which = Build(NAMES.get(self.real, ""), NAMES.get(self.store, ""))
        if which.real not in build.REALS or which.store not in (which.real, "bfloat16"):
            wanted = f"expected numbers in {' or '.join(build.REALS)} and memory rows in the same or bfloat16"
            raise ValueError(f"{op}: {wanted}, got {self.real} and {self.store}")
        self.which = which

    def expect(self, name: str, tensor: Tensor, dtype: torch.dtype, **sizes: int | None) -> torch.Size:
        """The tensor's shape; ValueError unless it is this one (letters to sizes, None: any), of the dtype and on the call's device."""
        shape, wanted = tensor.shape, tuple(sizes.values())
        fits = shape == wanted or (len(shape) == len(wanted) and all(w in (None, own) for w, own in zip(wanted, shape, strict=True)))
        if fits and tensor.dtype is dtype and tensor.device == self.device:
            return shape
        letters = ", ".join(letter if size is None else f"{letter} = {size}" for letter, size in sizes.items())
        got = f"{tensor.dtype} {list(shape)} on {tensor.device}"
        raise ValueError(f"{self.op}: {name}: expected {dtype} [{letters}] on {self.device}, got {got}")

    def rows_in_range(self, rows: Mapping[str, Tensor], slots: int, *, none: bool = True) -> None:
        """ValueError if a row number is not below N, or negative where that does not mean that there is none; an assertion on a GPU."""
        low = -(2**63) if none else 0
        for name, tensor in rows.items():
            if tensor.device.type == "cuda":  # as torch's own indexing: to raise here, the host would have to wait
                torch._assert_async(((tensor >= low) & (tensor < slots)).all())
                continue
            bad = build.load(*self.which[:2]).mb_first_bad_row(tensor.data_ptr(), tensor.numel(), low, slots)
            if bad >= 0:
                wanted = f"{'-1 (none) or ' if none else ''}0..{slots - 1}"
                raise ValueError(f"{self.op}: {name}: expected rows {wanted}, got {int(tensor.flatten()[bad])}")

    def run(self, entry: str, sizes: Mapping[str, int], inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        """Call an entry point; `changed` are the arguments and results that it writes to."""
        try:
            call.run_named(entry, self.which, {**changed, **inputs}, sizes)
        except ValueError as error:
            raise ValueError(f"{self.op}: {error}") from None
        increment_version(tuple(changed.values()))


def expect_no_gradient(op: str, **tensors: Tensor) -> None:
    """ValueError if autograd would have to go through an operation that has no gradient."""
    for name, tensor in tensors.items():
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{op}: {name}: expected a tensor without gradient (it works in place), got requires_grad=True; call it under "
                "torch.no_grad(), as the sequence kernels and SparseMemory do, which give the gradient themselves"
            )


def threads_for(work_bytes: int) -> int:
    """CPU threads for a call that moves so many bytes."""
    return max(1, min(torch.get_num_threads(), work_bytes // BYTES_A_THREAD))
