"""Every memory model against an independent transcription of its paper, over 12 steps with rows reused and erased."""

from typing import Any

import numpy as np
import pytest
import torch

from mann_bench.models import DAM, DNC, NTM, SAM, SDNC
from tests.support import golden

SIZES: dict = {"input_size": 4, "output_size": 3, "hidden": 6, "word_size": 5, "heads": 2}
STEPS, BATCH = 12, 2


def make(model_type, slots, **options):
    model = model_type(**SIZES, slots=slots, **options).double()
    for parameter in model.parameters():  # larger than usual: gates and weights away from their middle
        torch.nn.init.normal_(parameter, std=0.8)
    return model


def sparse_state(slots, fill, links=False):
    zeros = (np.zeros((slots, slots)), np.zeros((slots, slots))) if links else (None, None)
    return golden.SparseState(list(range(slots)), slots if fill == "full" else 0, [], *zeros)


CASES: dict[str, Any] = {
    "ntm": (NTM, {}, lambda n, fill: (golden.ntm_access(2, 1, 5), golden.NTMState(np.eye(n)[[0, 0]], np.eye(n)[[0]]))),
    "ntm-2-write-heads": (
        NTM,
        {"write_heads": 2},
        lambda n, fill: (golden.ntm_access(2, 2, 5), golden.NTMState(np.eye(n)[[0, 0]], np.eye(n)[[0, 0]])),
    ),
    "dnc": (
        DNC,
        {},
        lambda n, fill: (
            golden.dnc_access(2, 5),
            golden.DNCState(np.zeros(n), np.zeros((n, n)), np.zeros(n), np.zeros(n), np.zeros((2, n))),
        ),
    ),
    "dam": (DAM, {}, lambda n, fill: (golden.dam_access(2, 5), golden.DAMState(np.zeros(n), np.zeros((2, n)), n if fill == "full" else 0))),
    "sam": (SAM, {"reads": 3}, lambda n, fill: (golden.sam_access(2, 5, 3), sparse_state(n, fill))),
    "sdnc": (SDNC, {"reads": 3, "link_entries": 2}, lambda n, fill: (golden.sdnc_access(2, 5, 3, 2), sparse_state(n, fill, links=True))),
}
for name in [*CASES]:  # the reference and the native kernels are held to the same numbers
    model_type, options, twin = CASES.pop(name)
    CASES |= {f"{name}-{kernels}": (model_type, {**options, "kernels": kernels}, twin) for kernels in ("torch", "native")}


def compare(model, access_and_state, fill, tolerance=1e-10, in_any_order=False):
    x = torch.randn(STEPS, BATCH, SIZES["input_size"], dtype=torch.float64)
    state = model.initial_state(BATCH, fill=fill, seed=2)
    start = state.memory.memory.detach().numpy().copy()
    p = {name: value.numpy() for name, value in model.state_dict().items()}
    with torch.no_grad():
        y, after = model(x, state)
    ends = []
    for b in range(BATCH):
        access, golden_state = access_and_state()
        expected, memory = golden.run(p, x[:, b].numpy(), start[b], access, golden_state, 2, 5, 6)
        np.testing.assert_allclose(y[:, b].numpy(), expected, atol=tolerance)
        got = after.memory.memory[b].numpy()
        if in_any_order:
            got, memory = got[np.argsort(got[:, 0])], memory[np.argsort(memory[:, 0])]
        np.testing.assert_allclose(got, memory, atol=tolerance)
        ends.append(golden_state)
    return after, ends


@pytest.mark.parametrize("fill", ["empty", "full"])
@pytest.mark.parametrize("slots", [5, 7, 16])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_paper(name, slots, fill):
    model_type, options, twin = CASES[name]
    tied = name.startswith("dnc") and fill == "empty"  # untouched zero rows have equal usage: which of them is allocated first is rounding
    after, ends = compare(make(model_type, slots, **options), lambda: twin(slots, fill), fill, in_any_order=tied)
    for b, end in enumerate(ends):
        if name.startswith("dnc") and not tied:
            np.testing.assert_allclose(after.memory.link[b].numpy(), end.link, atol=1e-10)
            np.testing.assert_allclose(after.memory.usage[b].numpy(), end.usage, atol=1e-10)
        if name.startswith("dam"):
            np.testing.assert_allclose(after.memory.usage[b].numpy(), end.usage, atol=1e-10)
        if name.startswith("s"):
            assert after.memory.rows.ring.order()[b].tolist() == end.order
        if name.startswith("sdnc"):
            for columns, values, expected in (
                (after.memory.links.after_columns, after.memory.links.after_values, end.after),
                (after.memory.links.before_columns, after.memory.links.before_values, end.before),
            ):
                np.testing.assert_allclose(densify(columns[b], values[b], slots), expected, atol=1e-10)


@pytest.mark.parametrize("fill", ["empty", "full"])
def test_sdnc_with_all_entries_equals_the_dense_recurrences(fill):
    slots = 6
    model = make(SDNC, slots, reads=6, link_entries=slots)
    after, ends = compare(
        model, lambda: (golden.sdnc_access(2, 5, 6, slots, golden.dense_link_step), sparse_state(slots, fill, links=True)), fill, 1e-9
    )
    links = after.memory.links
    for b, end in enumerate(ends):
        np.testing.assert_allclose(densify(links.after_columns[b], links.after_values[b], slots), end.after, atol=1e-10)
        np.testing.assert_allclose(densify(links.before_columns[b], links.before_values[b], slots), end.after.T, atol=1e-10)


def densify(columns, values, slots):
    matrix = np.zeros((slots, slots))
    for i in range(slots):
        for j, value in zip(columns[i].tolist(), values[i].tolist(), strict=True):
            if j >= 0:
                matrix[i, j] += value
    return matrix
