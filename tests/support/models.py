"""Every model at a small size, by name, on both kinds of kernels."""

import dataclasses
from typing import Any

import torch

from mann_bench.models import DAM, DNC, LSTM, NTM, PKM, SAM, SDM, SDNC, DAMMemory, DeltaNet

SIZES: dict[str, Any] = {"input_size": 4, "output_size": 3, "hidden": 5}
MEMORY: dict[str, Any] = {**SIZES, "word_size": 4, "heads": 2, "slots": 7}
MODELS = {
    "lstm": (LSTM, SIZES),
    "ntm": (NTM, MEMORY),
    "dam": (DAM, MEMORY),
    "dnc": (DNC, MEMORY),
    "ntm-native": (NTM, {**MEMORY, "kernels": "native"}),
    "dam-native": (DAM, {**MEMORY, "kernels": "native"}),
    "dnc-native": (DNC, {**MEMORY, "kernels": "native"}),
    "sam": (SAM, {**MEMORY, "kernels": "torch"}),
    "sdnc": (SDNC, {**MEMORY, "kernels": "torch"}),
    "sam-native": (SAM, {**MEMORY, "kernels": "native"}),
    "sdnc-native": (SDNC, {**MEMORY, "kernels": "native"}),
    "sdm": (SDM, {**MEMORY, "slots": 9, "reads": 2}),
    "pkm": (PKM, {**MEMORY, "slots": 9, "reads": 2, "sparse": False}),
    "deltanet": (DeltaNet, {**SIZES, "word_size": 4, "heads": 2, "controller": "lstm"}),
}
DENSE = ("ntm", "dam", "dnc")
SPARSE = ("sam", "sdnc", "sam-native", "sdnc-native")


def tensors_of(state: Any) -> list[torch.Tensor]:
    """Every tensor of a state that a model makes anew, with DAM's candidates of each element always."""
    memory = getattr(state, "memory", None)
    if not isinstance(memory, DAMMemory):
        return list(state.tensors())
    plain = dataclasses.replace(state, memory=dataclasses.replace(memory, candidates=None))
    return [*plain.tensors(), memory.each_candidates()]


def make(name: str, **changes: Any) -> Any:
    model_type, sizes = MODELS[name]
    model: Any = model_type(**{**sizes, **changes}).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model
