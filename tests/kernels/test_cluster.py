"""Clusters of blocks without a GPU: their text on real threads, and what decides whether they run. Shared memory holds NaN at first."""

import itertools
import re
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mann_bench.kernels.native import build, cubin
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence import cluster, recurrence
from mann_bench.models import SAM, SDNC
from mann_bench.models.sparse import native
from tests.kernels.test_emulated import assert_as_reference, emulator, every_entry, make

ENTRIES = ("mb_forward_cluster", "mb_backward_cluster")
# hidden, slots, word size, heads, reads: fewer units than blocks, and sizes that no number of blocks or of a load divides.
SHAPES = {"all-one": (1, 2, 1, 1, 1), "odd": (7, 23, 5, 3, 3), "aligned": (12, 19, 32, 2, 2), "paper": (100, 64, 32, 4, 4)}
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sam": (SAM, {}),
    "sam-one-writer": (SAM, {"write_heads": 1, "erase": "gated", "strength": False}),
    "sdnc": (SDNC, {"link_entries": 3}),
}
TOO_MANY = "34 x 4 blocks are more than the 132 multiprocessors of card"
CARD = SimpleNamespace(name="card", multi_processor_count=132, shared_memory_per_block_optin=232448)
PAPER = {"batch": 8, "hidden": 100, "width": 32, "heads": 4, "interface_size": 268}  # 268: keys, strengths, values, two gates a head

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


SLOW = pytest.mark.slow  # each build of the text takes long to compile, and clusters are off until a card has run them


@pytest.fixture(scope="module", params=[pytest.param(2, marks=SLOW), 4])
def threads(request, tmp_path_factory):
    return emulator("thread", tmp_path_factory, cluster=request.param)


@pytest.mark.parametrize("name", ["sam", "sam-one-writer", "sam-lsh", "sdnc"])
def test_no_race(name, threads):
    model = make(name)
    with threads.instead():
        found = every_entry(model)
    assert set(threads.sites) >= {*ENTRIES, "mb_undo", "mb_redo"}
    assert_as_reference(model, found)


def test_every_removed_barrier_is_detected(threads):
    """Barriers of a cluster, and those of its blocks that others do not have."""
    met: set[str] = set()
    caught: set[str] = set()
    for seed, name in itertools.product(range(4), ("sam", "sam-lsh", "sdnc")):
        if seed > 0 and caught == met:
            break
        with threads.instead():
            every_entry(make(name, seed), steps=7)
        for entry in ENTRIES:
            sites = {site for site in threads.sites[entry] if "cluster.h" in site}
            met |= sites
            caught |= {site for site in sites if site not in caught and not threads.misses(entry, site)}
    assert len(met) == 11  # three of the cluster in each direction, two more around a query, one of the block, and one in a product
    assert caught == met


def sized(variant, shape, dtype=torch.float32):
    torch.manual_seed(0)
    kind, options = VARIANTS[variant]
    hidden, slots, width, heads, reads = SHAPES[shape]
    sizes = {"hidden": hidden, "slots": slots, "word_size": width, "heads": heads, "reads": reads}
    return kind(input_size=3, output_size=2, **sizes, kernels="native", **options).to(dtype)


def everything(model, steps=4, batch=2):
    """Outputs, states and memory of a pass and of one without a tape; gradients of all parameters, inputs and first states."""
    torch.manual_seed(1)
    dtype = model.output.weight.dtype
    state = model.initial_state(batch, fill="full")
    x = torch.randn(steps, batch, 3, dtype=dtype).requires_grad_()
    first = [tensor.requires_grad_() for tensor in (state.controller.hidden, state.controller.cell, state.controller.reads)]
    y, after = model(x, state)
    reached = [y, after.controller.hidden, after.controller.cell, after.controller.reads, after.memory.weights]
    found = [*(tensor.detach().clone() for tensor in reached), after.memory.index.clone(), after.memory.rows.memory.clone()]
    loss = sum((tensor * torch.linspace(-1, 1, tensor.numel(), dtype=dtype).view_as(tensor)).sum() for tensor in reached)
    found += torch.autograd.grad(loss, [x, *first, *model.parameters()], allow_unused=True)
    with torch.no_grad():
        y, after = model(x, model.initial_state(batch, fill="full"))
    return [*found, y, after.controller.cell, after.controller.reads, after.memory.rows.memory]


def assert_as_on_the_cpu(model, lanes, tolerance, steps=4):
    outcomes = []
    for where in (nullcontext(), lanes.instead()):
        with where:
            outcomes.append(everything(model, steps))
    for expected, got in zip(*outcomes, strict=True):
        assert (expected is None) == (got is None)
        if expected is not None:
            torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@SLOW
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_as_one_block_at_awkward_sizes(shape, variant, tmp_path_factory):
    """Under AddressSanitizer: what a block keeps fits the shared memory that Python asks for."""
    blocks = emulator("address,undefined", tmp_path_factory, cluster=4)
    assert_as_on_the_cpu(sized(variant, shape), blocks, 1e-4)


@SLOW
@pytest.mark.parametrize("shape", ["all-one", "odd"])
def test_as_one_block_in_double_precision(shape, tmp_path_factory):
    blocks = emulator("address,undefined", tmp_path_factory, cluster=4, real="float64")
    assert_as_on_the_cpu(sized("sam", shape, torch.float64), blocks, 1e-12)


@SLOW
@pytest.mark.parametrize(
    ("variant", "shape", "width", "blocks"),
    [("sam", "odd", 0, 4), ("sdnc", "all-one", 0, 4), ("sam", "aligned", 32, 2), ("sdnc", "odd", 0, 2), ("sam", "paper", 32, 4)],
)
def test_text_for_the_gpu(variant, shape, width, blocks, tmp_path_factory):
    """One host thread per lane of all blocks: there is no race, and all of them reach each barrier."""
    lanes = emulator("thread", tmp_path_factory, gpu_width=width, cluster=blocks)
    assert_as_on_the_cpu(sized(variant, shape), lanes, 1e-4, steps=3)


@SLOW
@pytest.mark.parametrize(("variant", "shape", "width"), [("sam", "odd", 0), ("sam", "paper", 32)])
def test_text_for_the_gpu_reads_16_bytes_where_they_are_aligned(variant, shape, width, tmp_path_factory, monkeypatch):
    """Buffers share tensors as in a real call: vectors begin anywhere in global memory, and are aligned in shared memory."""
    monkeypatch.setattr(recurrence, "is_short", lambda steps, batch, device: False)  # as on a GPU
    lanes = emulator("address,undefined", tmp_path_factory, gpu_width=width, packed=True, cluster=4)
    assert_as_on_the_cpu(sized(variant, shape), lanes, 1e-4, steps=3)


def bytes_of_pass(**sizes):
    return cluster.bytes_of_pass(Build(), {**PAPER, **sizes}, torch.device("cuda", 0))


@pytest.fixture
def card(monkeypatch):
    """A card with 132 multiprocessors and 227 KiB of shared memory, for which kernels compile; clusters are asked for."""
    found = SimpleNamespace(**vars(CARD))
    cluster._why_not_compiled.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(cubin, "compile_kernels", lambda *_: None)
    monkeypatch.setenv(cluster.VARIABLE, "4")
    yield found
    cluster._why_not_compiled.cache_clear()


def test_a_quarter_of_the_weights_of_the_paper_fits(card):
    assert bytes_of_pass() == 119_600  # 25 x 268 + 57 x 400 weights and a vector of 400, at 4 bytes


def test_it_is_off_unless_asked_for(card, monkeypatch):
    monkeypatch.setenv(cluster.VARIABLE, "")
    assert bytes_of_pass() == 0
    monkeypatch.delenv(cluster.VARIABLE)
    assert bytes_of_pass() == 0
    monkeypatch.setenv(cluster.VARIABLE, "3")
    with pytest.raises(ValueError, match="MANN_BENCH_CLUSTER: expected 4, or nothing to let one block step an element, got '3'"):
        bytes_of_pass()
    assert cluster.bytes_of_pass(Build(), PAPER, torch.device("cpu")) == 0


def test_results_say_what_steps_an_element(card, monkeypatch):
    model = sized("sam", "paper")
    assert model.remarks(8) == []  # on the CPU
    names = (
        "input_size",
        "output_size",
        "hidden",
        "slots",
        "word_size",
        "heads",
        "reads",
        "write_heads",
        "strength",
        "erase",
        "interface_size",
    )
    weight = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)
    there: Any = SimpleNamespace(
        **{name: getattr(model, name) for name in (*names, "storage", "modes")}, output=SimpleNamespace(weight=weight)
    )
    assert native.remarks(there, 8) == ["MANN_BENCH_CLUSTER=4: a cluster steps each element"]
    assert native.remarks(there, 34) == [f"MANN_BENCH_CLUSTER=4: one block steps an element: {TOO_MANY}"]
    monkeypatch.delenv(cluster.VARIABLE)
    assert native.remarks(there, 8) == []


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"batch": 34}, TOO_MANY),
        ({"hidden": 200}, r"4 blocks need \d{6} bytes of shared memory each, card has 232448"),
    ],
)
def test_one_block_runs_where_a_cluster_does_not_fit(sizes, reason, card):
    assert bytes_of_pass(**sizes) == 0
    assert re.fullmatch(reason, cluster.why_not(Build(), {**PAPER, **sizes}, torch.device("cuda", 0)) or "")


def test_one_block_runs_on_an_older_card(card, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))
    assert bytes_of_pass() == 0
    assert cluster.why_not(Build(), PAPER, torch.device("cuda", 0)) == "card has no clusters of blocks"


def test_one_block_runs_where_no_kernels_for_clusters_can_be_had(card, monkeypatch):
    monkeypatch.setattr(cubin, "compile_kernels", lambda *_: (_ for _ in ()).throw(build.BuildError("no CUDA compiler")))
    assert bytes_of_pass() == 0
    assert cluster.why_not(Build(), PAPER, torch.device("cuda", 0)) == "no CUDA compiler"
