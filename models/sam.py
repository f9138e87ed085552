"""SAM: Sparse Access Memory (Rae et al. 2016, section 3): K reads and K + 1 writes a head and step, whatever the number of slots.

This is the readable reference, one step at a time on any device. Decisions on what the paper leaves open: docs/models.md.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.kernels.index import find_index, make_index
from mann_bench.kernels.reference.snapshot import KINDS, bytes_a_row
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.models import layers
from mann_bench.models.mann import MANN, check_at_least
from mann_bench.models.modes import in_function_forward, ordinary, uncompiled
from mann_bench.models.phases import phase, steps
from mann_bench.models.sparse import native
from mann_bench.models.sparse.access import RowsFound, update_index, write
from mann_bench.models.sparse.memory import SparseMemory
from mann_bench.models.sparse.passes import StepwisePass, attach_outputs
from mann_bench.models.sparse.reset import BEGAN_FULL
from mann_bench.models.sparse.state import SAMMemory
from mann_bench.models.sparse.stepper import Stepper, make_stepper
from mann_bench.models.state import ControllerState, Fill, MANNState, check_fill, kept

Run = Callable[["SAM", Tensor, MANNState[SAMMemory], Lengths | None], tuple[Tensor, MANNState[SAMMemory]]]
DELTA = 0.005  # an access with more weight than this counts as use (section 3.2)


class SAM(MANN[SAMMemory]):
    """Writes go to the rows each head read last and to the least recently used row, which is wiped first; then each head reads K rows.

    Shape letters beyond those of `MANN`: K rows a head reads, V write heads, S rows a write head adds to.

    Each write head overwrites one row a step: a memory holds a sequence of T steps if N >= V T.

    Args:
        heads: R.
        reads: K.
        index: how rows near a query are found: a name of `mann_bench.kernels.index.INDEXES` or a class of your own as
            "package.module:Class". "exact" scores all N rows, "live" those written since reset; the others are approximate.
        kernels: "native", "torch", or "auto": native where that can run.
        write_heads: V, either R (each head writes with its own weights) or 1 (one write with their mean). Default: R.
        erase: "always" wipes the least recently used row every step, as in the paper; "gated" only if its write weight exceeds delta.
        strength: whether the interface has a key strength per head; without it, the paper's literal softmax of cosines.
        storage: dtype of the rows; torch.bfloat16 halves the memory. All computation is in the dtype of the parameters.
        snapshot: how rows that are overwritten are kept for backward: "exact", or rounded to "bfloat16" or "int8"; then backward restores
            them rounded, and gradients are approximate.
    """

    modes = 0  # further interface entries a head, for models built on this one
    checks_in_run = True

    def __init__(
        self,
        *,
        input_size: int,
        output_size: int,
        hidden: int = 100,
        slots: int,
        word_size: int = 32,
        heads: int = 4,
        reads: int = 4,
        index: str = "exact",
        kernels: str = "auto",
        write_heads: int | None = None,
        erase: str = "always",
        strength: bool = True,
        storage: torch.dtype | None = None,
        snapshot: str = "exact",
    ) -> None:
        write_heads = heads if write_heads is None else write_heads
        check_at_least("reads", reads, 1)
        if write_heads not in (1, heads):
            raise ValueError(f"write_heads: expected 1 or heads = {heads}, got {write_heads!r}")
        for name, value, choices in (
            ("kernels", kernels, ("auto", "native", "torch")),
            ("erase", erase, ("always", "gated")),
            ("snapshot", snapshot, KINDS),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
        super().__init__(
            input_size=input_size,
            output_size=output_size,
            hidden=hidden,
            slots=slots,
            word_size=word_size,
            heads=heads,
            interface_size=heads * (word_size + strength + self.modes) + write_heads * (word_size + 2),
        )
        if storage not in (None, torch.bfloat16):
            raise ValueError(f"storage: expected None (as the parameters) or torch.bfloat16, got {storage!r}")
        if reads > slots:
            raise ValueError(f"reads: expected at most slots = {slots} rows a head, got {reads}")
        self.reads, self.index, self.write_heads, self.erase, self.strength = reads, index, write_heads, erase, strength
        self.kernels, self.storage, self.snapshot, self.index_kind = kernels, storage, snapshot, find_index(index)

    @property
    def backend(self) -> dict[str, str]:
        """What runs: `kernels` "native" or "torch", which may differ from the option, and the index."""
        return {"kernels": native.choose_for(self), "index": self.index}

    @property
    def fallback(self) -> str | None:
        """Why torch runs although native kernels may; None if they run or are not to."""
        return None if self.kernels == "torch" else native.why_not_model(self)

    def remarks(self, batch: int) -> list[str]:
        """Say what steps the elements of a batch where clusters of blocks are asked for, or cannot run (`kernels/sequence/cluster.py`)."""
        return native.remarks(self, batch) if self.backend["kernels"] == "native" else []

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> SAMMemory:
        weight = self.output.weight
        index = make_index(self.index, str(weight.device))
        index.native = self.kernels != "torch"
        storage = self.storage or weight.dtype
        rows = SparseMemory.create(batch, self.slots, self.word_size, fill, seed, weight.detach(), storage, index)
        nothing_read = torch.full((batch, self.heads, self.reads), -1, dtype=torch.int64, device=rows.memory.device)
        return SAMMemory(rows=rows, index=nothing_read, weights=rows.norms.new_zeros(nothing_read.shape), position=0)

    def reset_state(
        self, state: MANNState[SAMMemory], elements: Tensor | Sequence[int], fill: Fill = "empty", seed: int = 0
    ) -> MANNState[SAMMemory]:
        """Make some batch elements empty again, in place of the memory: O(rows written since its start), whatever the number of slots.

        Args:
            elements: their numbers, or a mask bool [B].
            fill: "empty": of random rows no copy is kept.
            seed: without effect.

        Returns:
            The state to go on with; those before are stale.

        Raises:
            ValueError: the memory began full.
        """
        check_fill(fill)
        if fill == "full":
            raise ValueError(BEGAN_FULL)
        chosen, device = self.chosen(state, elements), self.output.weight.device
        with ordinary(device):
            memory = state.memory.reset(chosen)
            which = torch.tensor(chosen, dtype=torch.int64, device=device)
            return MANNState(state.controller.map(lambda tensor: tensor.index_fill(0, which, 0)), memory)

    def run(self, x: Tensor, state: MANNState[SAMMemory], lengths: Lengths | None = None) -> tuple[Tensor, MANNState[SAMMemory]]:
        """Run all steps and the output layer, in one native call where that is possible; recorded if a backward can follow."""
        if native.choose_for(self, fit=False) == "native":
            try:
                with phase("sequence"):
                    return self.run_in_mode(uncompiled(native.run), x, state, lengths)
            except (AssertionError, AttributeError, RuntimeError, ValueError) as error:
                if native.choose_for(self) == "native":  # else its weights do not fit, which torch may be able to use
                    if not isinstance(error, RuntimeError):
                        self.check_state(state, x)  # names the part of the state that does not fit, if that is why
                    raise
        self.check_state(state, x)
        return self.run_in_mode(SAM.run_stepwise, x, state, lengths)

    def stepper(self, state: MANNState[SAMMemory]) -> Stepper:
        """Make what steps this model from a state, one step a call and without gradients: an agent, or a decoder.

        It gives the outputs of calls with one step each. On the CPU's native kernels a step takes a fraction of their time.

            stepper = model.stepper(state)
            y_t = stepper(x_t)  # [B, X] -> [B, Y]
            state = stepper.state
        """
        return make_stepper(self, state)

    def run_in_mode(self, run: Run, x: Tensor, state: MANNState[SAMMemory], lengths: Lengths | None) -> tuple[Tensor, MANNState[SAMMemory]]:
        """Run all steps by `run`, which records a pass if gradients are on: they are not if nothing needs one."""
        gradients = torch.is_grad_enabled()
        if gradients and not self.needs_gradient(x, state):
            with torch.no_grad():
                return run(self, x, state, lengths)
        if not gradients and in_function_forward() and self.needs_gradient(x, state):
            return self.run_and_roll_back(x, state, lengths)
        return run(self, x, state, lengths)

    def needs_gradient(self, x: Tensor, state: MANNState[SAMMemory]) -> bool:
        """Whether parameters, input or state would receive a gradient."""
        if layers.output_weight(self).requires_grad:  # the usual case, found at once
            return True
        controller = state.controller
        others = (x, controller.hidden, controller.cell, controller.reads, state.memory.weights)
        return any(tensor.requires_grad for tensor in (*others, *self.parameters()))

    def run_and_roll_back(self, x: Tensor, state: MANNState[SAMMemory], lengths: Lengths | None) -> tuple[Tensor, MANNState[SAMMemory]]:
        """Run a pass that backward will run again from the same state, as reentrant activation checkpointing does."""
        with torch.enable_grad():
            y, after = self.run(x, state, lengths)
        state.memory.rows.history.forget_last()  # its tape is what checkpointing saves
        memory = dataclasses.replace(after.memory, weights=after.memory.weights.detach())
        return y.detach(), MANNState(after.controller.detach(), memory)

    def run_stepwise(self, x: Tensor, state: MANNState[SAMMemory], lengths: Lengths | None) -> tuple[Tensor, MANNState[SAMMemory]]:
        """Run step by step in torch, as one pass over the shared memory."""
        memory, recorded = state.memory, torch.is_grad_enabled()
        current = StepwisePass(memory.rows, memory.position, recorded=recorded, attached=memory.attached, snapshot=self.snapshot)
        with current.whole_or_undone():
            y, state = super().run(x, MANNState(state.controller, dataclasses.replace(memory, current=current)), lengths)
        current.roll_back_with(y)
        return y, MANNState(state.controller, dataclasses.replace(state.memory, position=current.close(), current=None))

    def unroll(self, x: Tensor, state: MANNState[SAMMemory]) -> tuple[Tensor, MANNState[SAMMemory]]:
        """Run all steps, so that a gradient of any output rolls back the whole pass."""
        return self.attached(*super().unroll(x, state))

    def unroll_padded(self, x: Tensor, state: MANNState[SAMMemory], lengths: Lengths) -> tuple[Tensor, MANNState[SAMMemory]]:
        """Run all steps with all elements, which share one memory; those that have ended change nothing."""
        past = lengths.past(x.device)  # [T, B]
        x = x.masked_fill(past.unsqueeze(2), 0)
        controller, memory = state.controller, state.memory
        features = x.new_zeros(*x.shape[:2], self.hidden + self.heads * self.word_size)
        parts = []
        for number, x_t in enumerate(steps(x[: max(lengths.each)])):
            idle = past[number] if number >= min(lengths.each) else None
            memory.running.idle = idle
            next_controller, next_memory = self.step(x_t, controller, memory)
            if idle is not None:
                next_controller, next_memory = kept(idle, controller, next_controller), kept(idle, memory, next_memory)
            controller, memory = next_controller, next_memory
            parts.append(torch.cat([controller.hidden, controller.reads.flatten(1)], dim=-1))
        memory.running.idle = None
        if parts:
            features = functional.pad(torch.stack(parts), (0, 0, 0, 0, 0, len(x) - len(parts)))
        return self.attached(features, MANNState(controller, memory))

    def attached(self, features: Tensor, state: MANNState[SAMMemory]) -> tuple[Tensor, MANNState[SAMMemory]]:
        """Make outputs and state depend on the whole pass."""
        controller, memory = state.controller, state.memory
        outputs = attach_outputs(memory.running, features, controller.hidden, controller.cell, controller.reads, memory.weights)
        return outputs[0], MANNState(ControllerState(*outputs[1:4]), dataclasses.replace(memory, weights=outputs[4]))

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        read, slots = (batch, self.heads, self.reads), (batch, self.slots)
        return {"index": read, "weights": read, "memory": (*slots, self.word_size), "rows.norms": slots, "rows.ring.last": slots}

    def check_state(self, state: object, x: Tensor) -> None:
        super().check_state(state, x)
        assert isinstance(state, MANNState)
        state.memory.check_rows(self.slots)

    def native_inputs(self, memory: SAMMemory) -> native.ModelInputs:
        return native.ModelInputs(sizes={}, buffers={}, constant_states={"read_index": memory.index})

    def memory_after(self, memory: SAMMemory, constant_states: Mapping[str, Tensor], weights: Tensor, position: int) -> SAMMemory:
        return SAMMemory(rows=memory.rows, index=constant_states["read_index"], weights=weights, position=position)

    def access(self, interface: Tensor, memory: SAMMemory) -> tuple[Tensor, SAMMemory]:
        """Run one step: all writes in head order, then all reads of the new memory (eq 4-9)."""
        queries, strengths, values, write_gate, mix_gate = self.split_interface(memory.running.masked(interface))
        with phase("write"):
            self.write(memory, values, write_gate, mix_gate)
        index, weights, reads = self.read(memory, queries, strengths)
        return reads, dataclasses.replace(memory, index=index, weights=weights)

    def split_interface(self, interface: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        """[B, P] -> queries [B, R, W], strengths [B, R], values [B, V, W], write gates alpha [B, V], mix gates gamma [B, V]."""
        heads, writers, width = self.heads, self.write_heads, self.word_size
        sizes = [heads * width, heads * self.strength, writers * width, writers, writers]
        queries, strengths, values, alpha, gamma = interface.split(sizes, dim=1)
        beta = 1 + functional.softplus(strengths) if self.strength else None
        return queries.unflatten(1, (heads, width)), beta, values.unflatten(1, (writers, width)), torch.sigmoid(alpha), torch.sigmoid(gamma)

    def write(self, memory: SAMMemory, values: Tensor, alpha: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Write with `w^W = alpha (gamma w^R_{t-1} + (1 - gamma) I^U)` (eq 5): erase and add (eq 8).

        Args:
            values: [B, V, W].
            alpha: write gates [B, V].
            gamma: mix gates [B, V].

        Returns:
            Rows int64 [B, V, S] (-1: none) and their write weights [B, V, S].
        """
        previous, weights = memory.index, memory.weights
        if self.write_heads < self.heads:
            previous, weights = mean_over_heads(previous, weights)
        to_read = (alpha * gamma).unsqueeze(-1) * weights  # [B, V, S]
        to_unused = alpha * (1 - gamma)  # [B, V]

        ring, idle = memory.rows.ring, memory.running.idle
        unused = []
        for head in range(self.write_heads):
            popped = ring.pop() if idle is None else ring.pop(idle)  # [B], -1: none
            touched = torch.cat([previous[:, head], popped[:, None]], dim=1)
            weight = torch.cat([to_read[:, head], to_unused[:, head, None]], dim=1)
            used = (weight > DELTA) & (touched >= 0)
            ring.touch(touched, used if idle is None else used & ~idle[:, None])
            unused.append(popped)
        least_used = torch.stack(unused, dim=1)  # [B, V]
        memory.rows.count_writes(1, self.write_heads, None if idle is None else [int(not ended) for ended in idle.tolist()])

        erased = least_used if self.erase == "always" else torch.where(to_unused > DELTA, least_used, -1)
        # In the place of a row that was not there, with weight 0, the one that is written to anyway: 0 times NaN is NaN.
        index = torch.cat([torch.where(previous < 0, least_used.unsqueeze(-1), previous), least_used.unsqueeze(-1)], dim=2)
        index = index if idle is None else index.clamp_min(0)
        weights = torch.cat([to_read, to_unused.unsqueeze(-1)], dim=2)
        write(memory.running, index, weights, values, erased)
        others = torch.where(previous == least_used.unsqueeze(-1), -1, previous)  # the least used row may also be one read last
        if idle is not None:
            others = others.masked_fill(idle[:, None, None], -1)
        update_index(memory.running, torch.cat([least_used.unsqueeze(-1), others], dim=2).flatten(1))
        return torch.cat([previous, least_used.unsqueeze(-1)], dim=2), weights

    def read(self, memory: SAMMemory, queries: Tensor, strengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Read the K nearest rows (eq 4) -> index, weights [B, R, K], reads [B, R, W]; rows read with more than delta count as used."""
        index, weights, rows = self.content_lookup(memory, queries, strengths)
        with phase("read"):
            self.touch_read(memory, index, weights)
            return index, weights, rows.read(weights)

    def touch_read(self, memory: SAMMemory, index: Tensor, weights: Tensor) -> None:
        """Count rows [B, R, K] that are read with more than delta as used, head by head."""
        used, idle = (weights > DELTA) & (index >= 0), memory.running.idle
        if idle is not None:
            used = used & ~idle[:, None, None]
        for head in range(self.heads):
            memory.rows.ring.touch(index[:, head], used[:, head])

    def content_lookup(self, memory: SAMMemory, queries: Tensor, strengths: Tensor | None) -> tuple[Tensor, Tensor, RowsFound]:
        """Find K rows a head and weigh them by a softmax of strength times cosine (eq 2).

        Returns:
            Index int64 [B, R, K], weights [B, R, K] and the rows.
        """
        rows = memory.rows
        with phase("search"):
            index = distinct(rows.index.query(rows, queries.detach(), self.reads))
            if rows.counts is not None:  # an index that knows num_candidates alone may find a row that this element has not
                index = index.masked_fill(index >= torch.tensor(rows.counts, device=index.device).view(-1, 1, 1), -1)
        with phase("addressing"):
            nearest = RowsFound(memory.running, index)
            similarity = nearest.cosines(queries)
            if strengths is not None:
                similarity = strengths.unsqueeze(-1) * similarity
            least = torch.finfo(similarity.dtype).min  # not -inf: the softmax must be finite where an index finds no row at all
            weights = torch.softmax(similarity.masked_fill(index < 0, least), dim=-1)
            return index, torch.where(index < 0, 0, weights), nearest

    def controller_tape_bytes(self, batch: int) -> int:
        """Predict as `MANN` does; the native pass saves gates, cell, hidden state, reads and interface once each."""
        if self.kernels == "torch":
            return super().controller_tape_bytes(batch)
        numbers = 6 * self.hidden + self.heads * self.word_size + self.interface.out_features
        return batch * numbers * self.output.weight.element_size()

    def tape_bytes_per_step(self, batch: int) -> int:
        """Rows gathered and overwritten, and vectors over K: independent of N. Where rows are kept rounded, none are gathered."""
        item, reads, exact = self.output.weight.element_size(), self.heads * self.reads, self.snapshot == "exact"
        support = self.write_heads * (self.reads * (self.heads // self.write_heads) + 1)
        a_row = bytes_a_row(self.word_size, item, self.snapshot)
        if self.kernels != "torch":
            return batch * (support * (a_row + exact * item) + item * 2 * reads + 4 * (2 * support + self.write_heads + 2 * reads))
        rows = exact * reads * self.word_size * item + (support + self.write_heads) * a_row
        vectors = (8 if exact else 3) * reads + 6 * support - (not exact) * (support + self.write_heads)
        indexes = 8 * (4 * support + 3 * reads)
        return batch * (rows + vectors * item + indexes)


def distinct(index: Tensor) -> Tensor:
    """Replace repeats within a head by -1: rows int64 [B, R, K] -> [B, R, K]."""
    same = index.unsqueeze(-1) == index.unsqueeze(-2)
    return index.masked_fill(same.tril(-1).any(-1), -1)


def mean_over_heads(index: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Average the heads' sparse weights, [B, R, K] -> [B, 1, R*K]; a row of several heads has one entry with their sum, else -1."""
    rows, parts = index.flatten(1), weights.flatten(1) / index.shape[1]
    same = (rows.unsqueeze(2) == rows.unsqueeze(1)) & (rows >= 0).unsqueeze(2)  # [B, S, S]
    first = same.int().argmax(dim=2) == torch.arange(rows.shape[1], device=rows.device)
    combined = torch.where(same, parts.unsqueeze(1), 0).sum(2)
    present = first & (rows >= 0)
    return torch.where(present, rows, -1).unsqueeze(1), torch.where(present, combined, 0).unsqueeze(1)
