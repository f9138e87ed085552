"""The kernels' source on fibers: ThreadSanitizer finds no race and detects removed barriers; AddressSanitizer finds no bad access."""

import functools
import itertools
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from mann_bench.kernels import ops, reference
from mann_bench.kernels.native import build
from mann_bench.kernels.native.arguments import in_order
from mann_bench.kernels.native.call import run_named
from mann_bench.kernels.native.layout import Build, Layout, TensorLayout, of_buffer
from mann_bench.kernels.reference import LshSizes, LshTables
from mann_bench.kernels.sequence import autograd as sequence
from mann_bench.kernels.sequence import recurrence
from mann_bench.models import SAM, SDNC
from tests.kernels.test_ops import NAMES, operator
from tests.kernels.test_ops import arguments as sound_arguments
from tests.support import emulated
from tests.support.emulated import Emulator, SanitizerError
from tests.support.indexes import COPIED

SIZES: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 11, "kernels": "native"}
# Few slots, so that heads and steps meet in the same rows: else a missing barrier between them would not show.
MODELS: dict[str, Callable[[], Any]] = {
    "sam": lambda: SAM(**SIZES, slots=8, word_size=9, heads=4, reads=3),
    "sam-one-writer": lambda: SAM(**SIZES, slots=8, word_size=5, heads=4, reads=3, write_heads=1, erase="gated", index="live"),
    "sam-large": lambda: SAM(**SIZES, slots=67, word_size=32, heads=1, reads=5, strength=False),
    # Rows of all weights but those of the inputs begin at multiples of 16 bytes: they are read by loads of that size.
    "sam-aligned": lambda: SAM(**{**SIZES, "hidden": 12}, slots=67, word_size=32, heads=2, reads=2),
    "sam-lsh": lambda: SAM(**SIZES, slots=67, word_size=9, heads=2, reads=3, index="lsh"),
    "sam-many": lambda: SAM(**SIZES, slots=19, word_size=5, heads=5, reads=8),  # more accesses in a step than a warp has lanes
    "sam-copied": lambda: SAM(**SIZES, slots=8, word_size=5, heads=4, reads=3, index=COPIED),
    "sam-copied-large": lambda: SAM(**SIZES, slots=67, word_size=32, heads=5, reads=2, index=COPIED),
    "sam-rounded": lambda: SAM(**SIZES, slots=8, word_size=5, heads=4, reads=3, index=COPIED, snapshot="int8"),
    "sdnc-rounded": lambda: SDNC(**SIZES, slots=9, word_size=5, heads=3, reads=3, link_entries=3, snapshot="bfloat16"),
    "sdnc": lambda: SDNC(**SIZES, slots=9, word_size=5, heads=3, reads=3, link_entries=3),
    "sdnc-small": lambda: SDNC(**SIZES, slots=7, word_size=1, heads=3, reads=3, link_entries=4),
}
SLOW = pytest.mark.slow
ENTRIES = {"mb_forward", "mb_backward", "mb_undo", "mb_redo"}

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=f"no native kernels: {build.why_not()}")


@pytest.fixture(scope="module")
def threads(tmp_path_factory):
    return emulator("thread", tmp_path_factory)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    return emulator("address,undefined", tmp_path_factory)


def emulator(sanitizer, tmp_path_factory, **options):
    try:
        return Emulator(sanitizer, tmp_path_factory.mktemp("emulated"), **options)
    except build.BuildError as error:
        if not re.search(r"fsanitize|l(ib)?[at]san", str(error)):
            raise
        pytest.skip(f"this compiler has no -fsanitize={sanitizer}: {error}")


def make(name, seed=0):
    torch.manual_seed(seed)
    return MODELS[name]()


def every_entry(model, steps=7, poison=None, lengths=None):
    """Run forward, backward, a replayed pass, an undone pass and a chain of two; return outputs and gradients.

    `poison` replaces one element's input. With `lengths` the memory begins empty, and elements have different numbers of candidates.
    """
    torch.manual_seed(1)
    x = torch.randn(steps, 2, 3)
    if poison is not None:
        x[1, 0] = poison
    x.requires_grad_()
    state = model.initial_state(2, fill="full" if lengths is None else "empty")
    rows = state.memory.rows
    start = [rows.memory.clone(), rows.norms.clone(), rows.ring.last.clone()]
    y, after = model(x, state, lengths)
    found = [y.detach(), *torch.autograd.grad(y.sum(), [x, *model.parameters()], allow_unused=True)]
    assert torch.equal(start[2], rows.ring.last)
    near = 0.0 if model.snapshot == "exact" else 0.02  # a row that comes back rounded
    for old, new in zip(start[:2], (rows.memory, rows.norms), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=near)
    after = after.detach()
    stands = rows.memory.clone()
    assert all(sorted(order) == list(range(model.slots)) for order in rows.ring.order().tolist())
    model(x.detach(), after, lengths)[1].rollback()
    torch.testing.assert_close(rows.memory, stands, rtol=0, atol=near, equal_nan=True)
    y, middle = model(x, after, lengths)
    z, _ = model(x.detach(), middle, lengths)
    found += torch.autograd.grad(y.sum() + z.sum(), [x, *model.parameters()], allow_unused=True)
    torch.testing.assert_close(rows.memory, stands, rtol=0, atol=near, equal_nan=True)
    return found


def assert_as_reference(model, found, steps=7, lengths=None):
    model.kernels = "torch"
    for a, b in zip(found, every_entry(model, steps, lengths=lengths), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW) if name == "sam-copied-large" else name for name in MODELS])
def test_no_race(name, threads):
    model = make(name)
    with threads.instead():
        found = every_entry(model)
    assert set(threads.sites) >= ENTRIES
    assert_as_reference(model, found)


@pytest.mark.parametrize("name", ["sam", "sdnc-small"])
def test_no_race_with_weights_in_panels(name, threads, monkeypatch):
    monkeypatch.setattr(recurrence, "pay_panels", lambda *sizes: True)
    model = make(name)
    with threads.instead():
        found = every_entry(model)
    assert_as_reference(model, found)


@pytest.mark.parametrize("name", ["sam-large", pytest.param("sam-copied-large", marks=SLOW)])
def test_no_race_where_many_blocks_search(name, threads, monkeypatch):
    monkeypatch.setattr(sequence, "search_parts", lambda *sizes: 3)
    model = make(name)
    with threads.instead():
        found = every_entry(model)
    assert {"mb_forward_step", "mb_search_part"} <= set(threads.sites)
    assert_as_reference(model, found)


@pytest.mark.parametrize(("name", "parts"), [("sam-one-writer", 1), ("sdnc", 1), ("sam-large", 3)])
def test_no_race_where_elements_end_early(name, parts, threads, monkeypatch):
    monkeypatch.setattr(sequence, "search_parts", lambda *sizes: parts)
    model, lengths = make(name), [1, 2]
    with threads.instead():
        found = every_entry(model, 3, lengths=lengths)
    assert_as_reference(model, found, 3, lengths)


def test_every_removed_barrier_is_detected(threads):
    """Some barriers matter only where several heads access one row, so more data are tried until the race shows."""
    met: set[str] = set()
    caught: set[str] = set()
    for seed, steps, name in itertools.product(range(4), (7, 21), ("sam-copied", "sam", "sdnc-small", "sam-one-writer", "sdnc")):
        if (seed, steps) > (0, 7) and caught == met:
            break
        with threads.instead():
            every_entry(make(name, seed), steps)
        for entry in ENTRIES:
            met |= set(threads.sites[entry])
            caught |= {site for site in threads.sites[entry] if site not in caught and not threads.misses(entry, site)}
    assert len(met) > 25
    assert caught == met


@pytest.mark.parametrize(
    ("width", "name", "parts"),
    [
        (0, "sam-many", 1),
        (0, "sdnc", 1),
        (0, "sam-lsh", 1),
        (0, "sam-copied", 1),
        (0, "sam-rounded", 1),
        (32, "sam-large", 3),
        pytest.param(32, "sam-copied-large", 3, marks=SLOW),
    ],
)
def test_text_for_the_gpu(width, name, parts, tmp_path_factory, monkeypatch):
    """One fiber per lane: all lanes reach each shuffle, there is no race, and results are those of the reference."""
    monkeypatch.setattr(sequence, "search_parts", lambda *sizes: parts)
    lanes, model = emulator("thread", tmp_path_factory, gpu_width=width), make(name)
    with lanes.instead():
        found = every_entry(model, steps=3)
    assert_as_reference(model, found, steps=3)
    if name == "sam-copied":
        assert not lanes.misses("mb_forward", "without __syncwarp")


def test_text_for_the_gpu_where_elements_end_early(tmp_path_factory):
    lanes, model, lengths = emulator("address,undefined", tmp_path_factory, gpu_width=0), make("sdnc"), [0, 2]
    with lanes.instead():
        found = every_entry(model, 3, lengths=lengths)
    assert_as_reference(model, found, 3, lengths)


@pytest.mark.parametrize("gpu_width", [None, 0], ids=["emu", "gpu"])
def test_ops_have_no_race(gpu_width, tmp_path_factory):
    """And give what the cpu build gives."""
    lanes = emulator("thread", tmp_path_factory, gpu_width=gpu_width)
    for name in NAMES:
        torch.manual_seed(0)
        arguments = sound_arguments(name)
        outcomes = []
        for where in (nullcontext(), lanes.instead()):
            given = [argument.clone() if isinstance(argument, torch.Tensor) else argument for argument in arguments]
            with where:
                result = operator(name)(*given)
            outcomes.append([*(result if isinstance(result, tuple) else (result,)), *given])
        for expected, got in zip(*outcomes, strict=True):
            if isinstance(expected, torch.Tensor):
                torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("candidates", [3, 90])
def test_lsh_text_for_the_gpu_is_exact(candidates, tmp_path_factory):
    """Full buckets of several lines, rows named again or not at all, rows that are alike, more of each than a warp has lanes."""
    batch, slots, width, heads, reads, written = 2, 97, 5, 3, 9, 41
    lanes = emulator("thread", tmp_path_factory, gpu_width=0)
    outcomes = []
    for where in (nullcontext(), lanes.instead()):
        torch.manual_seed(0)
        memory = torch.randn(batch, slots, width)
        memory[:, 50:80] = memory[:, 10:40]
        tables = LshTables.empty(batch, slots, width, LshSizes(tables=5, bits=2, capacity=16, probes=4, rerank=45), torch.float32)
        undos, outcome = [], []
        with where:
            ops.lsh_fill(tables, memory, candidates)
            for _ in range(3):
                queries = memory[:, :heads] + 0.3 * torch.randn(batch, heads, width)
                found = ops.lsh_query(tables, memory, queries, reads, 45)
                rows = torch.randint(-1, 30, (batch, written))
                memory[:, :30] += 0.5 * torch.randn(batch, 30, width)
                undo = ops.lsh_update(tables, memory, rows)
                outcome += [t.clone() for t in (found, undo.places, undo.entries, undo.sketches, tables.buckets, tables.codes)]
                undos.append(undo)
            for undo in (*reversed(undos), *undos):
                undo.toggle()
                outcome += [t.clone() for t in (undo.places, undo.entries, undo.sketches, tables.buckets, tables.codes)]
        outcomes.append(outcome)
    assert all(torch.equal(expected, got) for expected, got in zip(*outcomes, strict=True))


def test_text_for_the_gpu_stays_in_bounds(tmp_path_factory):
    """NaN in one batch element stays in that element."""
    lanes = emulator("address,undefined", tmp_path_factory, gpu_width=0)
    for name in ("sdnc", "sam-lsh"):
        with lanes.instead():
            found = every_entry(make(name), steps=3, poison=float("nan"))
        assert bool(found[0][0].isfinite().all())
        assert bool(found[0][:, 1].isfinite().all())
        assert bool(found[0][1:, 0].isnan().all())


@pytest.mark.parametrize(
    ("name", "width", "parts", "options"),
    [
        ("sam-large", 32, 1, {}),
        ("sam-aligned", 32, 3, {}),
        ("sam-lsh", 0, 1, {}),
        ("sdnc", 0, 1, {}),
        pytest.param("sam-aligned", 32, 1, {"gpu_threads": 512}, marks=pytest.mark.slow),
        pytest.param("sdnc", 0, 1, {"gpu_threads": 512}, marks=pytest.mark.slow),
    ],
)
def test_text_for_the_gpu_with_buffers_as_in_a_real_call(name, width, parts, options, tmp_path_factory, monkeypatch):
    """Buffers share tensors, so that a load of several numbers which is not aligned there is found; no number overflows."""
    monkeypatch.setattr(sequence, "search_parts", lambda *sizes: parts)
    monkeypatch.setattr(recurrence, "is_short", lambda *sizes: False)  # as on a GPU
    lanes, model = emulator("address,undefined", tmp_path_factory, gpu_width=width, packed=True, **options), make(name)
    with lanes.instead():
        found = every_entry(model, steps=3)
    assert_as_reference(model, found, steps=3)


@pytest.mark.parametrize("seed", range(3))
def test_text_for_the_gpu_pops_rows_in_the_order_of_the_cpu(seed, tmp_path_factory):
    """Also where a head reads the row that is the next head's turn to pop, as it often does in so few slots."""
    lanes, model, orders = emulator("address,undefined", tmp_path_factory, gpu_width=0), make("sam", seed), []
    x = 3 * torch.randn(6, 2, 3)
    for where in (nullcontext(), lanes.instead()):
        with where, torch.no_grad():
            _, after = model(x, model.initial_state(2, fill="full"))
        ring = after.memory.rows.ring
        orders.append((ring.order(), ring.last, after.memory.index))
    for of_cpu, of_gpu in zip(*orders, strict=True):
        assert torch.equal(of_cpu, of_gpu)


@pytest.mark.parametrize("first_byte", [4, 16])
def test_a_load_that_is_not_aligned_is_found(first_byte, tmp_path_factory):
    """Rows of a known width are read 16 bytes at a time: the launcher takes other kernels where the memory is not aligned to that."""
    lanes = emulator("address,undefined", tmp_path_factory, gpu_width=32, packed=True)
    which, slots = Build("float32", "float32", True), 40
    memory = TensorLayout((("values", 0), ("memory", first_byte)), "float32", None)  # values are not read
    others = {"norms": slots, "queries": 32, "part_scores": 2, "part_rows": 2, "part_scratch": 2 * 2 * 64 // 8}
    layout = Layout(which, [memory, *(of_buffer(which, name, None) for name in others)])
    tensors = [
        torch.ones(first_byte // 4 + slots * 32),
        *(torch.ones(size, dtype=of) for of, size in zip(layout.dtypes[1:], others.values(), strict=True)),
    ]
    sizes = {"batch": 1, "slots": slots, "width": 32, "heads": 1, "reads": 2, "parts": 1, "num_candidates": slots}
    with pytest.raises(SanitizerError, match="misaligned address") if first_byte % 16 else nullcontext():
        lanes.run("mb_topk_part", layout, tensors, in_order(sizes))


@pytest.mark.parametrize("gpu_width", [None, 0], ids=["emu", "gpu"])
def test_equal_rows_and_nan_in_the_order_of_the_reference(gpu_width, tmp_path_factory):
    """There are more equal rows than a list holds, spread over lists of many lanes and parts."""
    lanes = emulator("address,undefined", tmp_path_factory, gpu_width=gpu_width)
    memory = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 0]])[torch.arange(2 * 131).view(2, 131) // 40 % 3]
    memory[1, [17, 90]] = float("nan")
    queries = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 2, 0], [float("nan"), 0, 0]]).repeat(2, 1, 1)
    arguments = memory, reference.row_norms(memory), queries, 9, 131
    copies = reference.byte_rows(*arguments[:2])
    with lanes.instead():
        found = ops.topk_content(*arguments)
        bounded = ops.topk_content(*arguments, byte_rows=copies)
        assert torch.equal(ops.byte_rows(*arguments[:2])[:, :, :-1], copies[:, :, :-1])
    assert torch.equal(found, reference.topk_content(*arguments))
    assert torch.equal(bounded, found)


@pytest.mark.slow  # a build for this alone
def test_a_hash_index_in_double_precision_is_aligned(tmp_path_factory):
    """The buffers that lie before 8-byte numbers have odd lengths."""
    addresses = emulator("address,undefined", tmp_path_factory, real="float64")
    memory, queries = torch.randn(1, 40, 5, dtype=torch.float64), torch.randn(1, 1, 5, dtype=torch.float64)
    sizes = LshSizes(tables=3, bits=2, capacity=8, probes=3, rerank=8)
    tables = LshTables.empty(1, 40, 5, sizes, torch.float64)
    with addresses.instead():
        ops.lsh_fill(tables, memory, 40)
        ops.lsh_update(tables, memory, torch.arange(7)[None])
        found = ops.lsh_query(tables, memory, queries, 3, sizes.rerank)
    assert torch.equal(found, reference.lsh_query(tables, memory, queries, 3, sizes.rerank))


@pytest.fixture(scope="module")
def clean_passes(addresses):
    """What a model of this name gives on sound input, in the process that looks for bad accesses."""

    @functools.cache
    def passes(name):
        with addresses.instead():
            return every_entry(make(name))

    return passes


HOSTILE = {"nan": float("nan"), "inf": float("inf"), "huge": 3e38, "tiny": 1e-45}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["sam", "sam-one-writer", "sam-lsh", "sdnc"])
def test_hostile_inputs_stay_in_bounds(name, value, addresses, clean_passes):
    """NaN and infinity cause no bad access, no hang and no broken ring; the other batch element does not change."""
    clean = clean_passes(name)
    with addresses.instead():
        found = every_entry(make(name), poison=value)
    assert torch.equal(found[0][:, 1], clean[0][:, 1])
    assert torch.equal(found[0][0], clean[0][0])
    if value != value:
        assert bool(found[0][1:, 0].isnan().all())


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("layer", ["controller.weight_hh", "interface.weight", "interface.bias"])
def test_hostile_weights_stay_in_bounds(layer, value, addresses):
    for name in ("sam", "sdnc"):
        model = make(name)
        with torch.no_grad():
            model.get_parameter(layer)[::2] = value
        with addresses.instead():
            every_entry(model)


def test_the_sanitizer_sees_an_access_out_of_range(addresses):
    model = make("sam")
    with addresses.instead():
        model(torch.randn(2, 1, 3), model.initial_state(1, fill="full"))
        buffers = {"index": torch.zeros(1, dtype=torch.int64)}  # two are written
        with pytest.raises(SanitizerError, match="heap-buffer-overflow"):
            run_named("mb_scratch", Build("float32", "float32", True), buffers, {"batch": 1, "heads": 1, "reads": 1})


def test_a_changed_kernel_is_compiled_anew(tmp_path, monkeypatch):
    shutil.copytree(emulated.SOURCES, tmp_path / "csrc")
    monkeypatch.setattr(emulated, "SOURCES", tmp_path / "csrc")
    names = [emulated._name(("-O0",))]
    for source in ("memory/links.h", "device.cu"):
        with (tmp_path / "csrc" / source).open("a") as file:
            file.write("// changed")
        names.append(emulated._name(("-O0",)))
    assert len({*names, emulated._name(("-O1",))}) == 4
