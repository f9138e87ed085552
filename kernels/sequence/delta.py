"""Steps of the gated delta rule on banks of slots, some in one native call: `csrc/slots/delta.h` (Cabannes et al. 2026).

A bank [B, R, N, W] has N slots for each of R heads; rows are numbered through [B R N]. A call changes it in place and keeps what it
overwrites; backward restores that.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from mann_bench.kernels.native.arguments import in_order
from mann_bench.kernels.native.call import call, name_of
from mann_bench.kernels.native.layout import Build, of_buffers
from mann_bench.kernels.reference.snapshot import ROUNDED_BYTES
from mann_bench.kernels.sequence.lengths import Lengths


class Write(NamedTuple):
    """What some steps, or one, write to K slots a head, in a step all of them different."""

    rows: Tensor  # [.., B, R, Kw] int64
    weights: Tensor  # [.., B, R, Kw] k
    values: Tensor  # [.., B, R, W] v
    decay: Tensor  # [.., B, R] g, the logarithm of what is kept
    strength: Tensor  # [.., B, R] beta


class Read(NamedTuple):
    """What some steps, or one, read, each after its write."""

    rows: Tensor  # [.., B, R, Kr] int64, in a step all different
    weights: Tensor  # [.., B, R, Kr] q


class DeltaGradients(NamedTuple):
    """Gradients of the parts of a write, and of the weights of a read."""

    weights: Tensor
    values: Tensor
    decay: Tensor
    strength: Tensor
    read_weights: Tensor


class DeltaSteps:
    """Some steps, in one native call.

    Args:
        memory: the bank [B, R, N, W].
        write: what they write, [T, B, ..]; row numbers must be below B R N.
        read: what they read.
        weighted: whether slot n decays by exp(g k_n) instead of exp(g).
        taped: whether the rows overwritten are kept.
        snapshot: how, one of `snapshot.KINDS`: if rounded, they come back so.
        lengths: steps of each element of these T; None: T.

    Attributes:
        kept: the rows overwritten; once undone, what was written.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {}  # its tensors count as those of the pass that holds it

    def __init__(
        self,
        memory: Tensor,
        write: Write,
        read: Read,
        *,
        weighted: bool,
        taped: bool,
        snapshot: str = "exact",
        lengths: Lengths | None = None,
    ) -> None:
        steps, batch, heads, writes = write.rows.shape
        self.memory = memory
        self.write, self.read = Write(*(part.contiguous() for part in write)), Read(*(part.contiguous() for part in read))
        self.given = {} if lengths is None else lengths.buffers(memory.device)
        width, real = memory.shape[3], write.values.dtype
        self.build = Build(name_of(real), name_of(memory.dtype))
        self.sizes = {"steps": steps, "batch": batch, "heads": heads, "slots": memory.shape[2], "width": width}
        self.sizes |= {"writes": writes, "reads": read.rows.shape[3], "weighted": int(weighted), "taped": int(taped)}
        rounded, entries = taped * ROUNDED_BYTES[snapshot], (steps, batch, heads, writes)
        scratch = 3 * width + writes + (writes * width if rounded else 0)
        self.sizes |= {"rounded_bytes": rounded, "scratch_stride": scratch, "threads": min(torch.get_num_threads(), batch * heads)}
        if rounded:
            self.kept = {"rounded_rows": torch.empty(*entries, width * rounded, dtype=torch.int8, device=memory.device)}
            self.kept |= {"rounded_largest": write.values.new_empty(entries)} if rounded == 1 else {}
        else:
            self.kept = {"delta_old_rows": memory.new_empty((*entries, width) if taped else 0)}

    def forward(self) -> Tensor:
        """Run the steps: y [T, B, R, W], zeros beyond the lengths."""
        out = self._new(self.write.values)
        self._call("mb_delta_forward", {}, {"delta_out": out, "scratch": self._scratch()})
        return out

    def backward(self, grad: Tensor, gradient: Tensor, touched_writes: Tensor, touched_reads: Tensor) -> DeltaGradients:
        """Run the steps backwards and restore what they overwrote, as it was kept.

        Args:
            grad: of y [T, B, R, W].
            gradient: [U, W], of the touched rows of the bank after the steps; it becomes that before them.
            touched_writes: int64 [T, B, R, Kw], which of these rows each write is to.
            touched_reads: int64 [T, B, R, Kr], the same of the reads.
        """
        return self._run_back("mb_delta_backward", gradient, touched_writes, touched_reads, {"grad_delta_out": grad.contiguous()}, {})

    def _run_back(
        self,
        entry: str,
        gradient: Tensor,
        touched_writes: Tensor,
        touched_reads: Tensor,
        inputs: Mapping[str, Tensor],
        changed: Mapping[str, Tensor],
    ) -> DeltaGradients:
        """What `backward` does, by an entry point that has other inputs and changes more."""
        found = DeltaGradients(*map(self._new, (*self.write[1:], self.read.weights)))
        places = {"touched_writes": touched_writes.contiguous(), "touched_reads": touched_reads.contiguous()}
        buffers = {f"grad_delta_{name}": value for name, value in found._asdict().items()}
        buffers |= {"bank_gradient": gradient, "scratch": self._scratch(), **changed}
        self._call(entry, {**places, **inputs}, buffers)
        return found

    def undo(self) -> None:
        """Restore what the steps overwrote, as it was kept: bit for bit, or rounded."""
        self._call("mb_delta_undo", {}, {})

    def redo(self) -> None:
        """Make the writes again after they were undone, as what was written was kept."""
        self._call("mb_delta_redo", {}, {})

    def _new(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like) if self.given else torch.empty_like(like)

    def _scratch(self) -> Tensor:
        sizes = self.sizes
        return self.write.values.new_empty(sizes["batch"] * sizes["heads"], sizes["scratch_stride"])

    def _call(self, entry: str, inputs: Mapping[str, Tensor], changed: Mapping[str, Tensor]) -> None:
        buffers = {"memory": self.memory, **self.kept, **changed}
        given = {name: part for name, part in (self.accesses() | self.given | dict(inputs)).items() if name not in buffers}
        call(entry, of_buffers(self.build, (*given, *buffers)), list(given.values()), list(buffers.values()), in_order(self.sizes))
        increment_version(tuple(buffers.values()))

    def accesses(self) -> dict[str, Tensor]:
        """What is written and read, by the names of the buffers."""
        parts = {f"delta_{name}": part for name, part in self.write._asdict().items()}
        return parts | {"delta_reads": self.read.rows, "delta_read_weights": self.read.weights}
