"""Clusters of blocks without a GPU: their text on real threads, and what decides whether they run. Shared memory holds NaN at first."""

import itertools
import re
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mann_bench.doctor import examine
from mann_bench.kernels.native import build, cubin, driver
from mann_bench.kernels.native.layout import Build
from mann_bench.kernels.sequence import cluster, recurrence
from mann_bench.models import SAM, SDNC
from mann_bench.models.sparse import native
from tests.kernels.test_emulated import assert_as_reference, emulator, every_entry, make
from tests.support.fake_driver import FakeDriver, install

ENTRIES = ("mb_forward_cluster", "mb_backward_cluster")
# hidden, slots, word size, heads, reads: fewer units than blocks, and sizes that no number of blocks or of a load divides.
SHAPES = {"all-one": (1, 2, 1, 1, 1), "odd": (7, 23, 5, 3, 3), "aligned": (12, 19, 32, 2, 2), "paper": (100, 64, 32, 4, 4)}
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sam": (SAM, {}),
    "sam-one-writer": (SAM, {"write_heads": 1, "erase": "gated", "strength": False}),
    "sam-lsh": (SAM, {"index": "lsh"}),
    "sdnc": (SDNC, {"link_entries": 3}),
}
TOO_MANY = "33 clusters of 4 blocks are more than the 32 that can run at once"
NEEDED_BYTES = 4 * (25 * 268 + 57 * 400 + 400)  # of a block at the sizes below: weights and a vector of 400
PAPER = {"batch": 8, "hidden": 100, "width": 32, "heads": 4, "interface_size": 268}  # 268: keys, strengths, values, two gates a head

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


SLOW = pytest.mark.slow  # each build of the text takes long to compile


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


def test_no_race_where_elements_end_early(threads):
    model, lengths = make("sam-lsh"), [1, 2]
    with threads.instead():
        found = every_entry(model, 3, lengths=lengths)
    assert_as_reference(model, found, 3, lengths)


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
    [
        *[("sam", "odd", 0, 4), ("sam-lsh", "odd", 0, 4), ("sam-lsh", "aligned", 32, 4), ("sdnc", "all-one", 0, 4)],
        *[("sam", "aligned", 32, 2), ("sdnc", "odd", 0, 2), ("sam", "paper", 32, 4)],
    ],
)
def test_text_for_the_gpu(variant, shape, width, blocks, tmp_path_factory):
    """One fiber per lane of all blocks: there is no race, and all of them reach each barrier."""
    lanes = emulator("thread", tmp_path_factory, gpu_width=width, cluster=blocks)
    assert_as_on_the_cpu(sized(variant, shape), lanes, 1e-4, steps=3)


@SLOW
@pytest.mark.parametrize(("variant", "shape", "width"), [("sam", "odd", 0), ("sam", "paper", 32)])
def test_text_for_the_gpu_reads_16_bytes_where_they_are_aligned(variant, shape, width, tmp_path_factory, monkeypatch):
    """Buffers share tensors as in a real call: vectors begin anywhere in global memory, and are aligned in shared memory."""
    monkeypatch.setattr(recurrence, "is_short", lambda *sizes: False)  # as on a GPU
    lanes = emulator("address,undefined", tmp_path_factory, gpu_width=width, packed=True, cluster=4)
    assert_as_on_the_cpu(sized(variant, shape), lanes, 1e-4, steps=3)


def bytes_of_pass(**sizes):
    return cluster.bytes_of_pass(Build(), {**PAPER, **sizes}, torch.device("cuda", 0))


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A stand-in for the driver, of a card that can run 33 clusters forward at once and 32 backward. Nothing is asked for."""
    cluster._room.cache_clear()
    monkeypatch.delenv(cluster.VARIABLE, raising=False)
    yield install(monkeypatch, tmp_path)
    cluster._room.cache_clear()


def why_not(**sizes):
    return cluster.why_not(Build(), {**PAPER, **sizes}, torch.device("cuda", 0))


def remarks(**sizes):
    return cluster.remarks(Build(), {**PAPER, **sizes}, torch.device("cuda", 0))


def test_a_quarter_of_the_weights_of_the_paper_fits(card):
    assert bytes_of_pass() == NEEDED_BYTES
    assert cluster.bytes_of_pass(Build(), PAPER, torch.device("cpu")) == 0


def test_clusters_run_where_all_of_both_directions_are_resident_at_once(card):
    assert [bytes_of_pass(batch=batch) for batch in (1, 32, 33)] == [NEEDED_BYTES, NEEDED_BYTES, 0]
    card.resident["mb_forward_cluster"] = 16
    cluster._room.cache_clear()
    assert [bytes_of_pass(batch=batch) for batch in (16, 17)] == [NEEDED_BYTES, 0]


def test_the_driver_is_asked_once(card):
    """So a captured pass asks nothing: those before it have."""
    for batch in (2, 8, 200):
        bytes_of_pass(batch=batch)
    assert card.questions == [(entry, (4, 1, 1, 512, 1, 1, NEEDED_BYTES)) for entry in cluster.ENTRIES]
    bytes_of_pass(hidden=50)  # less shared memory: perhaps more clusters
    assert len(card.questions) == 4


@pytest.mark.parametrize("value", ["0", "1"])
def test_one_block_runs_where_the_variable_says_so(value, card, monkeypatch):
    monkeypatch.setenv(cluster.VARIABLE, value)
    assert (bytes_of_pass(), remarks(), card.questions) == (0, [], [])


@pytest.mark.parametrize("value", ["", "4"])
def test_asking_for_clusters_changes_what_is_said_and_not_what_runs(value, card, monkeypatch):
    monkeypatch.setenv(cluster.VARIABLE, value)
    assert [bytes_of_pass(batch=batch) for batch in (32, 33)] == [NEEDED_BYTES, 0]


@pytest.mark.parametrize("value", ["3", "4 ", "on", "-1"])
def test_another_value_is_an_error(value, card, monkeypatch):
    monkeypatch.setenv(cluster.VARIABLE, value)
    with pytest.raises(ValueError, match=f"MANN_BENCH_CLUSTER: expected 4 to ask for clusters, 0 to let one block .*, got '{value}'"):
        bytes_of_pass()


def test_results_say_what_steps_an_element_where_the_variable_asks(card, monkeypatch):
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
        **{name: getattr(model, name) for name in (*names, "storage", "snapshot", "modes")}, output=SimpleNamespace(weight=weight)
    )
    assert native.remarks(there, 8) == native.remarks(there, 33) == []
    monkeypatch.setenv(cluster.VARIABLE, "4")
    assert native.remarks(there, 8) == ["MANN_BENCH_CLUSTER=4: a cluster steps each element; 32 can run at once"]
    assert native.remarks(there, 33) == [f"MANN_BENCH_CLUSTER=4: one block steps an element: {TOO_MANY}"]


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"batch": 33}, TOO_MANY),
        ({"hidden": 200}, r"4 blocks need \d{6} bytes of shared memory each, card has 232448"),
    ],
)
def test_one_block_runs_where_a_cluster_does_not_fit(sizes, reason, card):
    assert bytes_of_pass(**sizes) == 0
    assert re.fullmatch(reason, why_not(**sizes) or "")
    assert remarks(**sizes) == []  # nothing is wrong


def test_one_block_runs_on_an_older_card(card, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 9))
    assert (bytes_of_pass(), card.questions) == (0, [])
    assert why_not() == "card has no clusters of blocks"
    assert remarks() == []


def refuse_to_compile(card, monkeypatch):
    monkeypatch.setattr(cubin, "compile_kernels", lambda *_, **__: (_ for _ in ()).throw(build.BuildError("no CUDA compiler")))


def be_older(card, monkeypatch):
    monkeypatch.delattr(FakeDriver, "cuOccupancyMaxActiveClusters")


def refuse_to_answer(card, monkeypatch):
    monkeypatch.setattr(card, "cuOccupancyMaxActiveClusters", lambda *_: 912)


def refuse_to_load(card, monkeypatch):
    monkeypatch.setattr(card, "cuModuleLoadData", lambda *_: 209)


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (refuse_to_compile, "no CUDA compiler"),
        (be_older, "cuOccupancyMaxActiveClusters: the CUDA driver has no such call; install a newer one"),
        (refuse_to_answer, "cuOccupancyMaxActiveClusters: what went wrong (912)"),
        (refuse_to_load, "cuModuleLoadData: what went wrong (209)"),
    ],
)
def test_a_fault_lets_one_block_run_and_is_told(fail, reason, card, monkeypatch):
    """Once as it runs, and in each result."""
    fail(card, monkeypatch)
    with pytest.warns(RuntimeWarning, match=re.escape(f"one block steps an element on the GPU, no cluster: {reason}")):
        assert bytes_of_pass() == 0
    assert bytes_of_pass() == 0  # warnings are errors here
    assert why_not() == reason
    assert remarks() == [f"one block steps an element: {reason}"]
    monkeypatch.setenv(cluster.VARIABLE, "4")
    assert remarks() == [f"MANN_BENCH_CLUSTER=4: one block steps an element: {reason}"]


@pytest.mark.parametrize(
    ("value", "state", "detail"),
    [
        ("", "ok", "4 blocks of a GPU for each element of a batch of SAM, up to 32 elements"),
        ("4", "ok", "4 blocks of a GPU for each element of a batch of SAM, up to 32 elements; MANN_BENCH_CLUSTER=4"),
        ("0", "note", "MANN_BENCH_CLUSTER=0: one block of a GPU for each element of a batch"),
        ("8", "note", "MANN_BENCH_CLUSTER: expected 4 to ask for clusters, "),
    ],
)
def test_doctor_says_what_steps_an_element(value, state, detail, card, monkeypatch):
    monkeypatch.setattr(driver, "why_not", lambda: None)
    monkeypatch.setenv(cluster.VARIABLE, value)
    found = examine._clusters()
    assert (found.part, found.state) == ("gpu clusters", state)
    assert found.detail.startswith(detail)


def test_doctor_says_why_clusters_do_not_run(card, monkeypatch):
    assert examine._clusters().state == "missing"  # no GPU at all
    monkeypatch.setattr(driver, "why_not", lambda: None)
    refuse_to_answer(card, monkeypatch)
    assert examine._clusters()[1:] == (
        "missing",
        "one block of a GPU for each element of a batch: cuOccupancyMaxActiveClusters: what went wrong (912)",
    )
