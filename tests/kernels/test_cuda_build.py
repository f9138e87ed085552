"""The cuda build without a GPU: it compiles for every supported architecture, and the launcher calls the driver as it expects."""

import ctypes
import functools
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mann_bench.kernels.native import build, call, driver
from mann_bench.kernels.native import cubin as cuda
from mann_bench.kernels.native.arguments import PLACES, SIZES, Arguments
from mann_bench.kernels.native.headers import entry_points
from mann_bench.kernels.sequence import autograd as sequence
from mann_bench.kernels.sequence import cluster as clusters
from mann_bench.kernels.sequence import recurrence
from mann_bench.models import SAM, SDNC
from mann_bench.models.sparse import native
from tests.support.fake_driver import install

ELF = b"\x7fELF"


def compilers() -> dict[str, cuda.Compiler | str]:
    found: dict[str, cuda.Compiler | str] = {}
    for name, find in (("nvrtc", cuda.nvrtc), ("nvcc", cuda.nvcc)):
        try:
            found[name] = find()
        except build.BuildError as error:
            found[name] = str(error)
    return found


COMPILERS = compilers()
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("arch", "real", "store", "width", "cluster"),
    [
        ("sm_90", "float32", "float32", 32, 0),
        ("sm_90", "float32", "float32", 32, 4),
        pytest.param("sm_80", "float32", "float32", 32, 0, marks=SLOW),
        pytest.param("sm_100", "float32", "float32", 32, 0, marks=SLOW),
        pytest.param("sm_100", "float32", "float32", 32, 4, marks=SLOW),
        pytest.param("sm_90", "float64", "float64", 20, 0, marks=SLOW),
        pytest.param("sm_90", "float64", "float64", 20, 4, marks=SLOW),
        pytest.param("sm_90", "float32", "bfloat16", 32, 0, marks=SLOW),
    ],
)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiles(compiler, arch, real, store, width, cluster):
    by = COMPILERS[compiler]
    if isinstance(by, str):
        pytest.skip(by)
    cubin = cuda.compile_kernels(arch, real, store, width, cluster, by).read_bytes()
    assert cubin.startswith(ELF)
    for entry in ("forward_cluster", "backward_cluster") if cluster else entry_points():
        assert f"mb_{entry}".encode() in cubin


def test_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(f"No module named {name!r}")))
    with pytest.raises(build.BuildError, match=r"no CUDA compiler .*cuda.core.*nvcc: not on the PATH.*pip install cuda-core"):
        cuda.compiler.__wrapped__()


def test_a_compile_error_is_reported(tmp_path, monkeypatch):
    if isinstance(COMPILERS["nvcc"], str):
        pytest.skip(COMPILERS["nvcc"])
    (tmp_path / "device.cu").write_text("nonsense;")
    monkeypatch.setattr(cuda, "MAIN", tmp_path / "device.cu")
    monkeypatch.setenv("MANN_BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(build.BuildError, match="nonsense"):
        cuda.compile_kernels("sm_90", by=COMPILERS["nvcc"])
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Native calls go through the launcher, as if the tensors were on a GPU with 132 multiprocessors."""
    fake = install(monkeypatch, tmp_path)
    monkeypatch.setattr(call, "device_of", lambda tensor: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=5))
    return fake


@pytest.mark.parametrize("cluster", [False, True])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("kind", [SAM, SDNC])
def test_a_pass_through_the_launcher(kind, parts, cluster, gpu, monkeypatch):
    """Outputs and gradients are those of a call without the launcher: this covers the schedule of kernels and the layout of arguments."""
    monkeypatch.setattr(sequence, "search_parts", lambda *sizes: parts)
    monkeypatch.setattr(recurrence, "is_short", lambda *sizes: False)  # as on a GPU
    monkeypatch.setattr(clusters, "bytes_of_pass", lambda which, size, device: 4096 if cluster else 0)
    model = kind(input_size=3, output_size=2, hidden=6, slots=23, word_size=5, heads=2, reads=3, kernels="native")
    x = torch.randn(4, 3, 3, requires_grad=True)
    found = []
    for kernels in ("native", "torch"):
        model.kernels = kernels
        y, _ = model(x, model.initial_state(3, fill="full"))
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *model.parameters()])])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    steps = [("mb_forward_step", 3), ("mb_search_part", 3 * parts)] * 4 + [("mb_forward_step", 3)]
    whole = [("mb_forward_cluster", 12) if cluster else ("mb_forward", 3)]
    launches = [launch for launch in gpu.launches if launch[0] != "mb_scratch"]
    assert launches == [*(steps if parts > 1 else whole), ("mb_backward_cluster", 12) if cluster else ("mb_backward", 3)]


@pytest.mark.parametrize("snapshot", ["exact", "int8"])
def test_padded_batches_and_rounded_rows_have_kernels_of_their_own(snapshot, gpu, monkeypatch):
    """Those of other passes load no lengths and round no rows. They are asked for by what needs them, also by candidates of an element."""
    asked: list[bool] = []
    find = cuda.compile_kernels

    def noted(*given, general=False):
        asked.append(general)
        return find(*given)

    monkeypatch.setattr(cuda, "compile_kernels", noted)
    monkeypatch.setattr(recurrence, "is_short", lambda *sizes: False)  # as on a GPU
    monkeypatch.setattr(clusters, "bytes_of_pass", lambda which, size, device: 0)
    sizes: dict[str, Any] = {"input_size": 3, "output_size": 2, "hidden": 6, "slots": 23, "word_size": 5, "heads": 2, "reads": 3}
    model = SAM(**sizes, kernels="native", snapshot=snapshot)
    x, found = torch.randn(4, 3, 3), []
    for kernels in ("native", "torch"):
        model.kernels, state, outputs = kernels, model.initial_state(3), []
        for lengths, general in ((None, False), ([1, 4, 2], True), (None, True)):
            asked.clear()
            y, state = model(x, state, lengths)
            assert kernels == "torch" or asked[-1] == (general or snapshot != "exact")
            outputs.append(y)
        found.append(torch.cat(outputs))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    only = {"MB_EQUAL_LENGTHS", "MB_EXACT_ROWS"}
    assert set(cuda.macros("float32", "float32", 32)) - set(cuda.macros("float32", "float32", 32, general=True)) == only


@pytest.mark.parametrize("kind", [SAM, SDNC])
def test_a_training_pass_repeats_what_a_graph_would(kind, gpu, monkeypatch):
    """It calls the driver for launches alone, with the sizes of the pass before. Inference does not: its place in the ring moves.

    The first pass asks the driver whether clusters pay.
    """
    for name in ("_primary_context", "_module", "_kernel"):
        monkeypatch.setattr(driver, name, functools.cache(getattr(driver, name)))
    monkeypatch.setattr(clusters, "_room", functools.cache(clusters._room.__wrapped__))
    monkeypatch.delenv(clusters.VARIABLE, raising=False)
    choose = clusters.bytes_of_pass
    monkeypatch.setattr(clusters, "bytes_of_pass", lambda which, size, device: choose(which, size, torch.device("cuda", 0)))
    monkeypatch.setattr(recurrence, "is_short", lambda *sizes: False)  # as on a GPU
    calls, real = [], driver._call

    def noted(name, *arguments):
        sizes = ctypes.cast(arguments[-2][0], ctypes.POINTER(Arguments)).contents if name == "cuLaunchKernel" else None
        calls.append((name, sizes and {size: getattr(sizes, size) for size in SIZES}))
        real(name, *arguments)

    monkeypatch.setattr(driver, "_call", noted)
    model = kind(input_size=3, output_size=2, hidden=6, slots=23, word_size=5, heads=2, reads=3, kernels="native")
    x, state = torch.randn(4, 3, 3), model.initial_state(3)
    passes = []
    for _ in range(3):
        calls.clear()
        model(x, state)[0].sum().backward()
        passes.append(list(calls))
    assert [name for name, _ in passes[0]].count("cuOccupancyMaxActiveClusters") == 2
    assert {name for name, _ in gpu.launches} - {"mb_scratch"} == {"mb_forward_cluster", "mb_backward_cluster"}
    assert passes[1] == passes[2]
    assert [name for name, _ in passes[1]] == ["cuCtxPushCurrent_v2", "cuLaunchKernel", "cuCtxPopCurrent_v2"] * 2
    positions = []
    for _ in range(2):
        calls.clear()
        with torch.no_grad():
            _, state = model(x, state)
        positions += [sizes["ring_tail"] for _, sizes in calls if sizes]
    assert positions[0] < positions[1]


@pytest.mark.parametrize(
    ("entry", "items"),
    [
        ("mb_undo", 3),
        ("mb_forward", 3),
        ("mb_topk_part", 3 * 7),
        ("mb_delta_forward", 3 * 2),
        ("mb_slot_access", 5 * 3 * 2),
        ("mb_slot_weights_back", 2),
    ],
)
def test_a_kernel_has_a_block_for_each_item(entry, items):
    assert driver.num_items(entry, Arguments(batch=3, heads=2, steps=5, parts=7)) == items


def test_every_entry_point_can_say_its_items():
    everything = Arguments(**dict.fromkeys(PLACES, 2))
    assert all(driver.num_items(f"mb_{name}", everything) in (2, 4, 8) for name in entry_points())


def test_nothing_is_launched_for_no_items(gpu):
    driver.launch("mb_undo", Arguments(batch=0), "float32", "float32", torch.device("cuda", 0))
    assert gpu.launches == []


def test_a_driver_error_is_named(gpu):
    gpu.cuLaunchKernel = lambda *_: 700
    gpu.cuGetErrorString = lambda code, text: setattr(text._obj, "value", b"an illegal memory access was encountered")
    with pytest.raises(driver.DriverError, match=r"cuLaunchKernel: an illegal memory access was encountered \(700\)"):
        driver.launch("mb_undo", Arguments(batch=1), "float32", "float32", torch.device("cuda", 0))


def test_a_call_that_the_driver_lacks_is_named(gpu):
    with pytest.raises(driver.DriverError, match="cuModuleGetLoadingMode: the CUDA driver has no such call; install a newer one"):
        driver._call("cuModuleGetLoadingMode")


def test_the_driver_is_asked_about_the_launch_that_is_made(gpu):
    """The layout of CUlaunchConfig is that of cuda.h: 7 unsigned numbers, a handle, a pointer and a number."""
    assert ctypes.sizeof(driver.LaunchConfig) == 56
    assert (driver.LaunchConfig.stream.offset, driver.LaunchConfig.num_attributes.offset) == (32, 48)
    assert driver.resident_clusters("mb_backward_cluster", 0, "float32", "float32", 32, 4096) == 32
    assert gpu.questions == [("mb_backward_cluster", (4, 1, 1, 512, 1, 1, 4096))]


def test_without_cuda_the_reason_is_given():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert driver.why_not.__wrapped__() in (f"torch {torch.__version__} is built without CUDA", "torch finds no NVIDIA GPU or driver")
    weight = torch.empty(1, device="meta")
    assert native.why_not(weight, 32) == "there are no native kernels for meta"


def test_parts_fill_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=132))
    card = torch.device("cuda", 0)
    assert sequence.search_parts(2**20, 1, card, 1) == 256
    assert sequence.search_parts(2**24, 1, card, 1) == 264
    assert sequence.search_parts(2**24, 200, card, 1) == 1
    assert sequence.search_parts(100, 1, card, 1) == 1


@pytest.mark.parametrize(
    ("rows", "batch", "threads", "parts"),
    [(2**24, 1, 4, 16), (2**24, 3, 4, 5), (2**24, 4, 4, 1), (2**24, 1, 1, 1), (2**17, 1, 4, 8), (32_767, 1, 4, 1)],
)
def test_parts_on_a_cpu_are_several_a_thread_where_there_are_fewer_elements(rows, batch, threads, parts):
    assert sequence.search_parts(rows, batch, torch.device("cpu"), threads) == parts
