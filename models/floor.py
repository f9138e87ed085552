"""The floor: the bytes that a pass of a model with a dense memory cannot avoid moving, however it is written.

It counts how often the memory M [N, W] of a batch element, and the DNC's link matrix L [N, N], have to cross the border between the
processor and its main memory. The processor may keep whatever does not grow with N: keys, reads, sums over rows. It may keep nothing of
size N from one pass over the rows to the next, so the floor holds for memories that fit no cache. A pass has to end before another may
begin where all rows must have been seen before any is used: that is all that forces more than one.

Tricks that save a pass count as used, whether or not a kernel uses them. The sum of a softmax need not be known before rows are summed
with its weights, because one factor corrects the sum afterwards. Rows after a write can be made again of those before it. A sum over rows
that is linear in numbers which are not known yet can be taken in parts. Vectors of N weights count once for each time that a step needs
them from the step before, or leaves them for the step after. Weights of the controller do not grow with N and do not count.

A pass of T steps backwards has no gradient of rows to read at its last step and none to leave at its first: T - 1 are moved.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mann_bench.models.mann import DenseMANN
from mann_bench.models.state import M


@dataclass(frozen=True)
class Sizes:
    """What the floor of a pass depends on.

    Attributes:
        batch: B.
        slots: N.
        width: W.
        heads: R, read heads.
        write_heads: V.
        steps: T.
        item: bytes of a number.
        train: whether backward follows.
    """

    batch: int
    slots: int
    width: int
    heads: int
    write_heads: int
    steps: int
    item: int
    train: bool

    def bytes_of(self, forward: int, backward: int, gradients: int) -> int:
        """Bytes of a pass from numbers a batch element: of a step forward, of one backward, and of the gradients between two steps."""
        numbers = self.steps * forward
        if self.train:
            numbers += self.steps * backward + (self.steps - 1) * gradients
        return self.batch * numbers * self.item


def ntm(s: Sizes) -> int:
    """4 N W forward, 3 N W backward.

    Forward: the write keys' scores need all rows before the first weight is known (read M); the read keys' scores need the rows written
    (read M), and sharpening is not linear in the sum of its softmax, so a row is read only after all are scored (read M once more, and
    write what the step leaves). The next write key needs that read. Vectors: R + V weights of before, R + V of after.
    Backward: rows before the step (read M), of which those after it are made again, and the gradient of rows (read, written). One pass is
    enough: what it needs of all rows beforehand is linear in the gradient of the read vectors, and is summed in forward. Vectors: the
    weights of before, their gradients read and written.
    """
    rows, vectors = s.slots * s.width, (s.heads + s.write_heads) * s.slots
    return s.bytes_of(4 * rows + 2 * vectors, rows + vectors, 2 * (rows + vectors))


def dam(s: Sizes) -> int:
    """2 N W forward, 3 N W backward.

    Forward: where to write is known from the step before, and reading is a plain softmax, so one pass writes, scores and reads (read M,
    write M). Vectors: R weights and the usage of before and of after.
    Backward: rows after the step (read M) and the gradient of rows (read and written), in one pass. Vectors: the weights of before, their
    gradients read and written; the usage carries none.
    """
    rows, weights = s.slots * s.width, s.heads * s.slots
    return s.bytes_of(2 * rows + 2 * (weights + s.slots), rows + weights, 2 * (rows + weights))


def dnc(s: Sizes) -> int:
    """3 N W + 2 N^2 forward, 4 N W + 3 N^2 backward.

    Forward: the write key's scores need all rows (read M); then the link changes and is multiplied with the read weights of before (read L,
    write L); then one pass writes, scores and reads, as reading is linear in the softmax (read M, write M). Vectors: R read weights, write
    weights, usage and precedence of before and of after.
    Backward: products of rows and the gradient of the read vectors (read M) are needed before the link's pass (read L, of which the link
    after the step is made again; its gradient read and written), and that before the write's (read M; the gradient of rows read and
    written). Vectors: those of before, their gradients read and written.
    """
    rows, links, vectors = s.slots * s.width, s.slots**2, (s.heads + 3) * s.slots
    return s.bytes_of(3 * rows + 2 * links + 2 * vectors, 2 * rows + links + vectors, 2 * (rows + links + vectors))


FLOORS: dict[str, Callable[[Sizes], int]] = {"ntm": ntm, "dam": dam, "dnc": dnc}  # by `Kind.name`


def pass_bytes(model: DenseMANN[M], batch: int, steps: int, *, train: bool) -> int:
    """Compute the floor of a pass of NTM, DAM or DNC in bytes."""
    sizes = Sizes(batch, model.slots, model.word_size, model.heads, getattr(model, "write_heads", 1), steps, _item(model), train)
    return FLOORS[model.kind.name](sizes)


def matrix_bytes(model: DenseMANN[M]) -> int:
    """Compute the bytes of the matrices that a step of one batch element passes over: its memory and, of a DNC, its links."""
    columns = model.word_size + (model.slots if model.kind.name == "dnc" else 0)
    return model.slots * columns * _item(model)


def _item(model: DenseMANN[M]) -> int:
    return model.output.weight.element_size()
