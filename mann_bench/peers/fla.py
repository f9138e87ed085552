"""`fla-core`: the gated delta rule (Yang et al. 2024) as its plain recurrence, which is what the package has for a CPU."""

from torch import Tensor

from mann_bench.data.case import Case
from mann_bench.models import DeltaNet
from mann_bench.models.deltanet import DeltaNetMemory
from mann_bench.models.phases import phase
from mann_bench.models.state import ControllerState, MANNState
from mann_bench.peers.peer import Peer, item_bytes


class FlaGatedDeltaRule(Peer, DeltaNet):
    """Our `DeltaNet` without a controller, whose recurrence over a sequence is one call of `naive_recurrent_gated_delta_rule`.

    Args:
        heads: R.
        word_size: W, width of values.
        key_size: D, width of keys; by default W.
    """

    package = "fla-core"
    needs_modules = ("fla", "triton", "einops")
    dtypes = ("float32",)
    devices = ("cpu",)  # on a GPU the package's own kernels would be the measure, not this

    def __init__(self, *, input_size: int, output_size: int, word_size: int = 32, heads: int = 4, key_size: int | None = None) -> None:
        self.rule = self.imported("fla.ops.gated_delta_rule.naive", "naive_recurrent_gated_delta_rule")
        super().__init__(input_size=input_size, output_size=output_size, word_size=word_size, heads=heads, key_size=key_size)

    @classmethod
    def why_not(cls, device: str = "cpu", dtype: str = "float32") -> str | None:
        if device.startswith("cuda"):
            return "fla-core's Triton kernels have no adapter here: only its plain recurrence on the CPU is measured"
        return super().why_not(device, dtype)

    @classmethod
    def predicted_bytes(cls, case: Case) -> dict[str, int]:
        """One state, four while a step makes another, and in training three a step."""
        keys = int(case.options.get("key_size", case.word_size))
        state = case.batch * case.heads * keys * case.word_size * item_bytes(case)
        return {"memory": state, "workspace": 4 * state} | ({"tape": 3 * case.steps * state} if case.mode == "train" else {})

    def unroll(self, x: Tensor, state: MANNState[DeltaNetMemory]) -> tuple[Tensor, MANNState[DeltaNetMemory]]:
        with phase("controller"):
            interface = self.interface(x)
        steps = self.prepare(interface)
        queries, keys, values = (tensor.transpose(0, 1) for tensor in (steps.queries, steps.keys, steps.values))
        decay, strength = steps.decay.transpose(0, 1), steps.strength.transpose(0, 1)
        with phase("sequence"):
            reads, memory = self.rule(
                queries, keys, values, strength, decay, scale=1.0, initial_state=state.memory.memory, output_final_state=True
            )
        reads = reads.transpose(0, 1)
        controller = ControllerState(state.controller.hidden, state.controller.cell, reads[-1])
        return reads.flatten(2), MANNState(controller, DeltaNetMemory(memory))
