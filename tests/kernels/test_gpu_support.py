"""The helpers of tests/cuda, tested without a GPU, because an error of a helper there would cost minutes of GPU time."""

import contextlib
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity

from mann_bench.kernels import ops, reference
from mann_bench.kernels.index import make_index, ops_for
from mann_bench.kernels.native import driver
from mann_bench.kernels.reference import LruRing, LshSizes, LshTables, SparseLinks
from mann_bench.models import SAM
from tests.cuda.passes import state_as_on_the_cpu
from tests.support.gpu import no_wait, profiled_names, sanitizer_options


@pytest.fixture
def modes(monkeypatch):
    """`torch.cuda.set_sync_debug_mode` as it is on a GPU: it sets the mode first, then warns that it is a prototype."""
    modes = []

    def set_mode(mode):
        modes.append(mode)
        if mode == "error":
            warnings.warn("Synchronization debug mode is a prototype feature", UserWarning, stacklevel=2)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    return modes


@pytest.mark.parametrize("fails", [False, True])
def test_no_wait_survives_the_warning_and_resets_the_mode(modes, fails):
    with contextlib.suppress(RuntimeError), no_wait():
        if fails:
            raise RuntimeError("a wait")
    assert modes == ["error", "default"]


def test_profiled_names_are_there_after_the_profiler_has_ended():
    assert "aten::add" in profiled_names(lambda: torch.ones(3).add(1), [ProfilerActivity.CPU])


@pytest.mark.parametrize("index", ["exact", "lsh"])
@pytest.mark.parametrize("fill", ["empty", "full"])
def test_a_state_as_on_the_cpu_is_the_one_that_a_model_makes_there(fill, index):
    model = SAM(input_size=3, output_size=2, hidden=4, slots=40, word_size=5, heads=2, index=index)
    made, wanted = state_as_on_the_cpu(model, 2, fill, 3), model.initial_state(2, fill=fill, seed=3)
    assert made.memory.rows.num_candidates == wanted.memory.rows.num_candidates
    for a, b in zip(made.tensors(), wanted.tensors(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("help_text", "options"),
    [
        ("  --kernel-name arg\n  --report-api-errors arg", ["--kernel-name", "kns=mb_", "--report-api-errors", "no"]),
        ("  --kernel-regex arg\n", ["--kernel-regex", "kns=mb_"]),
        ("", []),
    ],
)
def test_the_sanitizer_looks_at_our_kernels_only(help_text, options):
    assert sanitizer_options(help_text) == options


@pytest.mark.parametrize(
    "make",
    [
        lambda: SparseLinks.empty(1, 2, 1, torch.float32).after_values,
        lambda: LruRing(1, 3).last,
        lambda: LshTables.empty(1, 9, 4, LshSizes(1, 1, 8, 1, 1), torch.float32).planes,
        lambda: LshTables.empty(1, 9, 4, LshSizes(1, 1, 8, 1, 1), torch.float32).codes,
        lambda: torch.empty(3),  # as conftest.py replaces it
    ],
    ids=["links", "ring", "planes", "codes", "poisoned-empty"],
)
def test_state_is_made_on_the_default_device(make):
    with torch.device("meta"):
        assert make().is_meta


ON_GPU: Any = SimpleNamespace(  # a memory whose tensors say that they are on a GPU
    memory=SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16, shape=(1, 100, 20), is_meta=False),
    norms=SimpleNamespace(dtype=torch.float32),
    num_candidates=100,
)


@pytest.mark.parametrize("index", ["exact", "lsh"])
@pytest.mark.parametrize(("reason", "expected"), [(None, ops), ("no compiler", reference)], ids=["native", "reference"])
def test_an_index_on_a_gpu_uses_native_kernels_where_there_are_any(index, reason, expected, monkeypatch):
    asked = []

    def why_not(*types):
        asked.append(types)
        return reason

    monkeypatch.setattr(driver, "why_not", why_not)
    assert ops_for(make_index(index), ON_GPU) is expected
    assert asked == [("float32", "bfloat16", 20)]
