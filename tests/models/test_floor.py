"""The floor of dense models: its formulas against counts of passes written out, and its place in a result."""

from typing import Any

import pytest

from mann_bench.models import DAM, DNC, NTM
from mann_bench.models.floor import matrix_bytes, pass_bytes

N, W, R = 1024, 32, 4
SIZES: dict[str, Any] = {"input_size": 5, "output_size": 3, "slots": N, "word_size": W, "heads": R}
PASSES: dict[str, Any] = {  # over rows forward and backward, over links, and states of N weights
    "ntm": (NTM(**SIZES), (4, 3), (0, 0), R + 1, R + 1),
    "ntm of two writers": (NTM(**SIZES, write_heads=2), (4, 3), (0, 0), R + 2, R + 2),
    "dam": (DAM(**SIZES), (2, 3), (0, 0), R + 1, R),
    "dnc": (DNC(**SIZES), (3, 4), (2, 3), R + 3, R + 3),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_floor_is_its_passes_over_rows_links_and_vectors(name):
    model, rows, links, states, gradients = PASSES[name]
    forward, backward = (rows[i] * N * W + links[i] * N * N for i in (0, 1))
    long, short = (pass_bytes(model, 3, steps, train=True) for steps in (11, 1))
    step = 4 * (forward + backward + 2 * states * N + 3 * gradients * N)
    assert (long - short) / 10 == 3 * step
    # At the last step there is no gradient of rows and states to read, at the first none to leave.
    ends = 4 * (2 * N * W + 2 * gradients * N + (2 * N * N if links[0] else 0))
    assert short == 3 * (step - ends)
    assert pass_bytes(model, 1, 7, train=False) == 7 * 4 * (forward + 2 * states * N)


def test_what_must_fit_a_cache_is_one_element():
    assert matrix_bytes(PASSES["ntm"][0]) == matrix_bytes(PASSES["dam"][0]) == 4 * N * W
    assert matrix_bytes(PASSES["dnc"][0].double()) == 8 * N * (W + N)
    PASSES["dnc"][0].float()
