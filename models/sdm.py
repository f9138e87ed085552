"""SDM: Sparse Delta Memory (Cabannes et al. 2026): a bank of slots a head, found by product keys and written by a gated delta rule.

The readable reference runs one step at a time on any device (kernels="torch"); native kernels some in one call. Decisions on what the
paper leaves open: docs/models.md.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mann_bench.kernels.native import call
from mann_bench.kernels.reference import search
from mann_bench.kernels.reference.snapshot import KINDS, bytes_a_row
from mann_bench.kernels.sequence.lengths import Lengths
from mann_bench.kernels.sequence.slot_recurrence import ControllerEnds, ControllerWeights
from mann_bench.kernels.sequence.slot_shapes import SlotSearch
from mann_bench.kernels.sequence.slot_steps import SlotWeights
from mann_bench.models import layers
from mann_bench.models.layers import choose
from mann_bench.models.mann import check_at_least, check_tensors
from mann_bench.models.modes import in_function_forward, ordinary
from mann_bench.models.phases import phase
from mann_bench.models.projected import BLOCK_STEPS, ProjectedMANN
from mann_bench.models.slots.access import Access, accesses, last_of
from mann_bench.models.slots.bank import Bank, BankReset, Start
from mann_bench.models.slots.delta import delta_step
from mann_bench.models.slots.gates import Gates
from mann_bench.models.slots.memory import SDMMemory
from mann_bench.models.slots.native import controlled_steps, slot_steps
from mann_bench.models.slots.passes import NativeBankPass, StepwiseBankPass
from mann_bench.models.slots.product_keys import scores_of, sides_of
from mann_bench.models.sparse.passes import attach_outputs
from mann_bench.models.state import ControllerState, Fill, MANNState, check_fill, kept

NativeRun = Callable[[Tensor, "MANNState[SDMMemory]", Lengths | None], "tuple[Tensor, MANNState[SDMMemory]]"]


class SDM(ProjectedMANN[SDMMemory, Access]):
    """Each head writes to K slots of its own N by the gated delta rule, then reads K slots; which, its keys say, not what the slots hold.

    Shape letters beyond those of `MANN`: K slots a head reads (Kr) and writes (Kw), S scores of all factors, N slots a head.

    Args:
        hidden: H, with controller="lstm".
        slots: N of each head: a perfect square, or as `factors` says.
        heads: R.
        reads: Kr.
        writes: Kw; by default as `reads`.
        kernels: "torch", "native", or "auto": native where it can run.
        controller: "none": projections of the input make what a step needs; "lstm": an LSTM does, wired as in SAM.
        factors: F: N is an F-th power; or the sizes of the factors, as "32x64".
        weights: "softmax" of the scaled scores of the slots found, or their scores divided by their Euclidean norm, "l2".
        scale: of the scores before the softmax.
        decay: "plain": each slot written keeps exp(g); "weighted": slot n keeps exp(g k_n).
        norm: whether reads are layer-normalised, head by head.
        gate: whether reads pass a sigmoid gate made of the interface.
        start: "zero", or "learned": a parameter, copied for each batch element.
        sparse: whether the gradient of a learned start is a sparse tensor of the rows touched.
        snapshot: how rows that are overwritten are kept for backward: "exact", or rounded to "bfloat16" or "int8"; then backward restores
            them rounded, and gradients are approximate.
    """

    ledger_causes: ClassVar[Mapping[str, str]] = {"start": "memory"}

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
        writes: int | None = None,
        kernels: str = "auto",
        controller: str = "none",
        factors: int | str = 2,
        weights: str = "softmax",
        scale: float = 1.0,
        decay: str = "plain",
        norm: bool = False,
        gate: bool = False,
        start: str = "zero",
        sparse: bool = True,
        snapshot: str = "exact",
    ) -> None:
        writes = reads if writes is None else writes
        for name, value, choices in (
            ("kernels", kernels, ("auto", "native", "torch")),
            ("weights", weights, ("softmax", "l2")),
            ("decay", decay, ("plain", "weighted")),
            ("start", start, ("zero", "learned")),
            ("snapshot", snapshot, KINDS),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
        for name, count in (("slots", slots), ("heads", heads), ("reads", reads), ("writes", writes)):
            check_at_least(name, count, 1)
        self.sides = sides_of(slots, factors)
        for name, count in (("reads", reads), ("writes", writes)):
            if count > slots:
                raise ValueError(f"{name}: expected at most slots = {slots} a head, got {count}")
        self.reads, self.writes, self.kernels, self.factors, self.weights = reads, writes, kernels, factors, weights
        self.scale, self.decay, self.norm, self.gate, self.snapshot = scale, decay, norm, gate, snapshot
        super().__init__(
            controller=controller,
            input_size=input_size,
            output_size=output_size,
            hidden=hidden,
            slots=slots,
            word_size=word_size,
            heads=heads,
            interface_size=heads * (2 * sum(self.sides) + word_size + 2 + gate * word_size),
        )
        self.gates = Gates(heads)
        self.slot_search = SlotSearch(self.sides, writes, reads, weights, scale)
        self.layer_norm = nn.LayerNorm(word_size) if norm else None
        self.sparse = sparse
        self.start = nn.Parameter(torch.randn(heads, slots, word_size) * word_size**-0.5) if start == "learned" else None

    @property
    def backend(self) -> dict[str, str]:
        """What runs: native or torch kernels."""
        return {"kernels": "torch" if self.kernels == "torch" or self.fallback else "native"}

    @property
    def fallback(self) -> str | None:
        """Why torch runs although native kernels may; None if they run or are not to."""
        weight = self.output.weight
        return None if self.kernels == "torch" else call.why_not(weight.device, weight.dtype, weight.dtype, self.word_size)

    def initial_memory(self, batch: int, fill: Fill, seed: int) -> SDMMemory:
        weight = self.output.weight.detach()
        start = None if self.start is None or fill == "full" else Start(self.start, sparse=self.sparse)
        rows = Bank.create(batch, self.heads, self.slots, self.word_size, fill, seed, weight, start)
        token = weight.new_zeros(batch) if start is None else start.token(batch)
        return SDMMemory(rows=rows, token=token, position=0)

    def reset_state(
        self, state: MANNState[SDMMemory], elements: Tensor | Sequence[int], fill: Fill = "empty", seed: int = 0
    ) -> MANNState[SDMMemory]:
        """Set some batch elements to what `initial_state` gives them, in place of the bank: O(N) for each of them.

        Args:
            elements: their numbers, or a mask bool [B].
            fill: how the bank began.
            seed: of the random rows, with fill="full".

        Returns:
            The state to go on with; those before are stale.

        Raises:
            ValueError: the bank began otherwise.
        """
        check_fill(fill)
        chosen, device = self.chosen(state, elements), self.output.weight.device
        memory = state.memory
        if fill != memory.rows.fill:
            raise ValueError(f"fill: expected {memory.rows.fill!r}, as this state began, got {fill!r}")
        if not chosen:
            return state
        with ordinary(device):
            which = torch.tensor(chosen, dtype=torch.int64, device=device)
            fresh = self.initial_memory(len(chosen) if fill == "empty" else len(memory.token), fill, seed)
            if fill == "full":  # which random rows an element has depends on its place
                fresh = fresh.map(lambda tensor: tensor[which])
            made = BankReset(memory.rows, memory.position, chosen, fresh.rows)
            token = memory.token.index_copy(0, which, fresh.token)
            controller = state.controller.map(lambda tensor: tensor.index_fill(0, which, 0))
            return MANNState(controller, dataclasses.replace(memory, token=token, position=made.end.position))

    def run(self, x: Tensor, state: MANNState[SDMMemory], lengths: Lengths | None = None) -> tuple[Tensor, MANNState[SDMMemory]]:
        """Run all steps and the output layer as one pass over the bank; recorded if a backward can follow."""
        choose(self.kernels, self.fallback)  # warns where native kernels were asked for and cannot run
        gradients, needed = torch.is_grad_enabled(), self.needs_gradient(x, state)
        if gradients and not needed:
            with torch.no_grad():
                return self.run_recorded(x, state, lengths)
        if needed and not gradients and in_function_forward():
            return self.run_and_roll_back(x, state, lengths)
        return self.run_recorded(x, state, lengths)

    def needs_gradient(self, x: Tensor, state: MANNState[SDMMemory]) -> bool:
        """Whether parameters, input or state would receive a gradient."""
        tensors = (x, *state.controller.tensors(), state.memory.token)
        return any(tensor.requires_grad for tensor in chain((self.interface.weight, *tensors), self.parameters()))  # mostly the first does

    def run_and_roll_back(self, x: Tensor, state: MANNState[SDMMemory], lengths: Lengths | None) -> tuple[Tensor, MANNState[SDMMemory]]:
        """Run a pass that backward will run again from the same state, as reentrant activation checkpointing does."""
        with torch.enable_grad():
            y, after = self.run_recorded(x, state, lengths)
        state.memory.rows.history.forget_last()  # its tape is what checkpointing saves
        memory = dataclasses.replace(after.memory, token=after.memory.token.detach())
        return y.detach(), MANNState(after.controller.detach(), memory)

    def run_recorded(self, x: Tensor, state: MANNState[SDMMemory], lengths: Lengths | None) -> tuple[Tensor, MANNState[SDMMemory]]:
        """Run all steps as one pass, recorded where gradients are on."""
        memory = state.memory
        kind = NativeBankPass if self.backend["kernels"] == "native" else StepwiseBankPass
        recorded = torch.is_grad_enabled()
        current = kind(memory.rows, memory.position, recorded=recorded, attached=memory.attached, snapshot=self.snapshot)
        if memory.attached:
            current.token = current.token + memory.token.sum()
        with current.whole_or_undone():
            y, state = super().run(x, MANNState(state.controller, dataclasses.replace(memory, current=current)), lengths)
        current.roll_back_with(y)
        return y, MANNState(state.controller, dataclasses.replace(state.memory, position=current.close(), current=None))

    def unroll(self, x: Tensor, state: MANNState[SDMMemory]) -> tuple[Tensor, MANNState[SDMMemory]]:
        """Run all steps, so that a gradient of any output rolls back the whole pass."""
        run = self.native_run(state.memory)
        return self.attached(*(super().unroll(x, state) if run is None else run(x, state, None)))

    def native_run(self, memory: SDMMemory) -> NativeRun | None:
        """What runs all steps in native calls that are longer than a step; None: nothing does."""
        if not isinstance(memory.running, NativeBankPass) or not self.runs_whole:
            return None
        return self.unroll_together if self.projected else self.unroll_controlled

    @property
    def runs_whole(self) -> bool:
        """Whether native calls are longer than a step: behind an LSTM, if nothing stands between what is read and the LSTM."""
        if self.projected:
            return True
        return self.layer_norm is None and not self.gate and layers.why_not(self, "unroll_controlled") is None

    def unroll_controlled(self, x: Tensor, state: MANNState[SDMMemory], lengths: Lengths | None) -> tuple[Tensor, MANNState[SDMMemory]]:
        """Run all steps behind the LSTM in one native call."""
        weights = layers.weights(self)
        access = SlotWeights(weights.interface_weight, weights.interface_bias, self.gates.log_decay, self.gates.step_bias)
        controller, before, current = ControllerWeights(*weights[:4]), ControllerEnds(*state.controller.tensors()), state.memory.running
        assert isinstance(current, NativeBankPass)
        with phase("sequence"):
            features, after = controlled_steps(
                current, x, before, controller, access, self.slot_search, weighted=self.decay == "weighted", lengths=lengths
            )
        return features, MANNState(ControllerState(*after), state.memory)

    def unroll_together(self, x: Tensor, state: MANNState[SDMMemory], lengths: Lengths | None) -> tuple[Tensor, MANNState[SDMMemory]]:
        """Run all steps, many in one native call: no step waits for the reads of another."""
        controller, memory, parts = state.controller, state.memory, []
        for number, part in enumerate([x] if len(x) <= BLOCK_STEPS else x.split(BLOCK_STEPS)):
            ends = None if lengths is None else lengths.part(number * BLOCK_STEPS, len(part))
            reads = self.access_together(part, memory, ends)
            parts.append(reads.flatten(2))
            controller = dataclasses.replace(controller, reads=last_of(reads, ends, controller.reads))
        return parts[0] if len(parts) == 1 else torch.cat(parts), MANNState(controller, memory)

    def access_together(self, x: Tensor, memory: SDMMemory, lengths: Lengths | None) -> Tensor:
        """Run some steps on what makes their interface vectors, [T, B, X] or [T, B, H], in one native call -> reads [T, B, R, W]."""
        weight: Tensor = self.interface.weight
        bias: Tensor = self.interface.bias
        gate = None
        if self.gate:
            gates = self.heads * self.word_size
            gate = functional.linear(x, weight[-gates:], bias[-gates:]).unflatten(-1, (self.heads, self.word_size))
            weight, bias = weight[:-gates], bias[:-gates]
        current = memory.running
        assert isinstance(current, NativeBankPass)
        with phase("sequence"):
            weights = SlotWeights(weight, bias, self.gates.log_decay, self.gates.step_bias)
            weighted = self.decay == "weighted"
            reads = slot_steps(current, x, weights, self.slot_search, weighted=weighted, lengths=lengths)
        return self.read_out(reads, gate)

    def step(self, x_t: Any, controller: ControllerState, memory: SDMMemory) -> tuple[ControllerState, SDMMemory]:
        current = memory.running
        if not isinstance(current, NativeBankPass):
            return super().step(x_t, controller, memory)
        with phase("controller"):
            hidden, cell = self.control(x_t, controller)
        ends = None if current.idle is None else Lengths(tuple(int(not idle) for idle in current.idle.tolist()), 1)
        return ControllerState(hidden, cell, self.access_together(hidden.unsqueeze(0), memory, ends)[0]), memory

    def unroll_padded(self, x: Tensor, state: MANNState[SDMMemory], lengths: Lengths) -> tuple[Tensor, MANNState[SDMMemory]]:
        """Run all steps with all elements, which share one bank; those that have ended change nothing."""
        past, end = lengths.past(x.device), max(lengths.each)
        if (run := self.native_run(state.memory)) is not None:
            return self.attached(*run(x.masked_fill(past.unsqueeze(2), 0), state, lengths))
        controller, memory = state.controller, state.memory
        parts = []
        for number, inputs in enumerate(self.inputs_of_steps(x[:end].masked_fill(past[:end].unsqueeze(2), 0))):
            idle = past[number] if number >= min(lengths.each) else None
            memory.running.idle = idle
            next_controller, memory = self.step(inputs, controller, memory)
            controller = next_controller if idle is None else kept(idle, controller, next_controller)
            parts.append(torch.cat([controller.hidden, controller.reads.flatten(1)], dim=-1))
        memory.running.idle = None
        features = x.new_zeros(0, x.shape[1], self.output.in_features) if not parts else torch.stack(parts)
        return self.attached(functional.pad(features, (0, 0, 0, 0, 0, len(x) - end)), MANNState(controller, memory))

    def attached(self, features: Tensor, state: MANNState[SDMMemory]) -> tuple[Tensor, MANNState[SDMMemory]]:
        """Make outputs and state depend on the whole pass."""
        controller, memory = state.controller, state.memory
        token = torch.zeros_like(memory.token.detach())
        if self.projected:  # hidden state and cell are empty
            features, reads, token = attach_outputs(memory.running, features, controller.reads, token)
            return features, MANNState(dataclasses.replace(controller, reads=reads), dataclasses.replace(memory, token=token))
        features, *ends, token = attach_outputs(memory.running, features, *controller.tensors(), token)
        return features, MANNState(ControllerState(*ends), dataclasses.replace(memory, token=token))

    def memory_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        return {"memory": (batch, self.heads, self.slots, self.word_size), "token": (batch,)}

    def check_state(self, state: object, x: Tensor) -> None:
        super().check_state(state, x)
        assert isinstance(state, MANNState)
        check_tensors("state.memory", state.memory, self.memory_shapes(x.shape[1]), x.device, x.dtype)

    def prepare(self, interface: Tensor) -> Access:
        """Find the slots of each step, weigh them, and make values and gates: interface [.., B, P]."""
        heads, width, scores = self.heads, self.word_size, sum(self.sides)
        sizes = [heads * scores, heads * scores, heads * width, heads, heads, heads * width * self.gate]
        write_scores, read_scores, values, decay, strength, gate = interface.split(sizes, dim=-1)
        write_rows, write_weights = self.address(write_scores.unflatten(-1, (heads, scores)), self.writes)
        decay, strength = self.gates(decay, strength)
        read_rows, read_weights = self.address(read_scores.unflatten(-1, (heads, scores)), self.reads)
        return Access(
            write_rows=write_rows,
            write_weights=write_weights,
            values=values.clone().unflatten(-1, (heads, width)),  # a view, kept for backward, would keep all scores with it
            decay=decay,
            strength=strength,
            read_rows=read_rows,
            read_weights=read_weights,
            output_gate=gate.unflatten(-1, (heads, width * self.gate)),
        )

    def address(self, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Choose slots by their scores [.., B, R, S] -> rows of the flattened bank int64 [.., B, R, K], and their weights [.., B, R, K]."""
        with phase("search"):
            slots = search(scores, self.sides, count)
        with phase("addressing"):
            found = scores_of(scores, self.sides, slots)
            weights = torch.softmax(self.scale * found, dim=-1) if self.weights == "softmax" else functional.normalize(found, dim=-1)
            batch, heads = slots.shape[-3:-1]
            bank = torch.arange(batch * heads, device=slots.device).view(batch, heads, 1)
            return bank * self.slots + slots, weights

    def apply_step(self, prepared: Access, memory: SDMMemory) -> tuple[Tensor, SDMMemory]:
        """Write, then read the slots as they are then."""
        (write, read), current = accesses(prepared), memory.running
        assert isinstance(current, StepwiseBankPass)
        reads = delta_step(current, write, read, weighted=self.decay == "weighted")
        return self.read_out(reads, prepared.output_gate if self.gate else None), memory

    def read_out(self, reads: Tensor, gate: Tensor | None) -> Tensor:
        """Normalise and gate what was read, [.., B, R, W]."""
        with phase("read"):
            if self.layer_norm is not None:
                reads = self.layer_norm(reads)
            return reads if gate is None else reads * torch.sigmoid(gate)

    def tape_bytes_per_step(self, batch: int) -> int:
        """Rows overwritten, and vectors over K: independent of N. Native kernels keep no numbers of single factors."""
        item, row_numbers = self.output.weight.element_size(), 1 if self.kernels != "torch" else 1 + len(self.sides)
        accesses = self.writes + self.reads
        numbers = accesses + (1 + self.norm + 2 * self.gate) * self.word_size + 4
        kept_bytes = self.writes * bytes_a_row(self.word_size, item, self.snapshot)
        return batch * self.heads * (kept_bytes + numbers * item + 8 * accesses * row_numbers)

    def controller_tape_bytes(self, batch: int) -> int:
        if self.projected or self.kernels == "torch" or not self.runs_whole:
            return super().controller_tape_bytes(batch)
        return batch * (self.input_size + self.heads * self.word_size + 6 * self.hidden) * self.output.weight.element_size()

    @property
    def table(self) -> Tensor | None:
        return self.start

    def touched_rows(self, batch: int) -> int:
        return batch * self.heads * (self.writes + self.reads)
