"""A state made by a model of other sizes is refused with the name of the part that does not fit; all kernels give the same message."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mann_bench.kernels.native import build
from mann_bench.models import DAM, DNC, NTM, SAM, SDNC

SIZES: dict[str, Any] = {"input_size": 5, "output_size": 3, "hidden": 8, "slots": 16, "word_size": 6, "heads": 2}
NATIVE = pytest.param("native", marks=pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}"))
kernels = pytest.mark.parametrize("kernels", ["torch", NATIVE])


def refused(model: Any, state: Any) -> str:
    with pytest.raises(ValueError, match=r"^state\..*; make one with initial_state$") as error:
        model(torch.randn(3, 2, 5), state)
    return str(error.value)


@kernels
@pytest.mark.parametrize(
    ("kind", "size", "one", "other", "part", "expected", "got"),
    [
        (SAM, "reads", 9, 2, "memory.index", "[2, 2, 9]", "[2, 2, 2]"),
        (SAM, "word_size", 6, 32, "controller.reads", "[2, 2, 6]", "[2, 2, 32]"),
        (SAM, "hidden", 8, 40, "controller.hidden", "[2, 8]", "[2, 40]"),
        (SAM, "slots", 16, 64, "memory.memory", "[2, 16, 6]", "[2, 64, 6]"),
        (SDNC, "reads", 9, 2, "memory.index", "[2, 2, 9]", "[2, 2, 2]"),
        (SDNC, "link_entries", 9, 2, "memory.links.after_columns", "[2, 16, 9]", "[2, 16, 2]"),
    ],
)
def test_smaller_and_larger(kind, size, one, other, part, expected, got, kernels):
    models = [kind(**{**SIZES, size: value}, kernels=kernels) for value in (one, other)]
    states = [model.initial_state(2, fill="full") for model in models]
    assert f"state.{part}: expected {expected}" in refused(models[0], states[1])
    assert f"state.{part}: expected {got}" in refused(models[1], states[0])


@pytest.mark.parametrize(
    ("kind", "options", "part"),
    [
        (NTM, {"write_heads": 2}, "memory.write_weights"),
        (DAM, {"heads": 3}, "controller.reads"),
        (DNC, {"slots": 15}, "memory.memory"),
    ],
)
def test_dense_models(kind, options, part):
    state = kind(**{**SIZES, **options}).initial_state(2)
    assert f"state.{part}: expected" in refused(kind(**SIZES), state)


PARTS = ["controller.cell", "memory.weights", "memory.rows.norms", "memory.rows.ring.last", "memory.links.before_values"]
PARTS += ["memory.links.after_values", "memory.links.before_columns", "memory.precedence_rows", "memory.precedence_weights"]


@kernels
@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_state_is_checked(part, kernels):
    model = SDNC(**SIZES, kernels=kernels)
    state = model.initial_state(2, fill="full")
    *path, name = part.split(".")
    holder = state
    for step in path:
        holder = getattr(holder, step)
    whole = getattr(holder, name)
    for other in (whole[..., :-1].contiguous(), torch.cat([whole, whole], dim=-1)):
        setattr(holder, name, other)
        assert refused(model, state).startswith(f"state.{part}: expected {list(whole.shape)} ")
    setattr(holder, name, whole)
    model(torch.randn(3, 2, 5), state)


@kernels
@pytest.mark.parametrize("part", ["index", "precedence_rows"])
def test_rows_that_the_memory_does_not_have(part, kernels):
    model = SDNC(**SIZES, kernels=kernels)
    state = model.initial_state(2, fill="full")
    getattr(state.memory, part)[1, 0] = 16
    assert refused(model, state) == f"state.memory.{part}: expected rows 0..15 or -1 (none), got 16; make one with initial_state"


@kernels
def test_a_state_of_another_kind_of_model(kernels):
    state = SAM(**SIZES, kernels=kernels).initial_state(2)
    message = refused(SDNC(**SIZES, kernels=kernels), state)
    assert message.startswith("state.memory: expected one with ")
    assert message.endswith("got 'SAMMemory' object has no attribute 'links'; make one with initial_state")


def smaller_codes(rows: Any) -> None:
    rows.index.tables.codes = rows.index.tables.codes[:, :8].contiguous()


def fewer_hyperplanes(rows: Any) -> None:
    rows.index.tables.planes = rows.index.tables.planes[:4].contiguous()


def a_queue_for_one(rows: Any) -> None:
    rows.ring.reserve(100)
    rows.ring.queue = rows.ring.queue[:1]


def heads_for_one(rows: Any) -> None:
    rows.ring.head = rows.ring.head[:1]


def rows_of_another_type(rows: Any) -> None:
    rows.memory = rows.memory.half()


@pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (smaller_codes, r"codes: expected a contiguous torch.int32 tensor \[2, 16, \d+\] on cpu, got torch.int32 \[2, 8, \d+\] on cpu"),
        (fewer_hyperplanes, r"planes: expected a contiguous torch.float32 tensor \[6, \d+\] on cpu, got torch.float32 \[4, \d+\] on cpu"),
        (a_queue_for_one, r"ring_queue: expected a contiguous torch.int32 tensor \[2, any\] on cpu, got torch.int32 \[1, \d+\]"),
        (heads_for_one, r"first_ring_head: expected a contiguous torch.int64 tensor \[2\] on cpu, got torch.int64 \[1\]"),
        (rows_of_another_type, r"state.memory: expected rows in torch.float32 or torch.bfloat16, got torch.float16"),
    ],
)
def test_what_only_a_native_call_reads(change: Callable[[Any], None], message):
    model = SAM(**SIZES, index="lsh", kernels="native")
    state = model.initial_state(2, fill="full")
    change(state.memory.rows)
    with pytest.raises(ValueError, match=message):
        model(torch.randn(3, 2, 5), state)
