"""Both sequence kernels on the GPU: outputs, states, gradients and rollback as on the CPU; the host does not wait; CUDA graphs."""

import copy

import pytest
import torch
from torch.profiler import ProfilerActivity

from mann_bench.kernels.native.clocks import clocked
from mann_bench.kernels.sequence import autograd as sequence
from mann_bench.models import SAM, SDNC
from tests.cuda.passes import SIZES, assert_alike, run_pass, state_as_on_the_cpu
from tests.support.gpu import no_wait, profiled_names

SHAPES = {  # hidden, slots, word size, heads, reads, batch, steps
    "all-one": (1, 2, 1, 1, 1, 1, 1),
    "primes": (37, 97, 13, 3, 5, 7, 11),
    "paper": (100, 1024, 32, 4, 4, 8, 25),
    "wide": (257, 211, 65, 2, 7, 2, 5),
    "more-than-the-card": (33, 64, 32, 4, 4, 200, 6),
    "many-heads": (19, 64, 7, 9, 2, 3, 5),
    "long": (16, 131, 8, 2, 2, 2, 300),
}
VARIANTS = {
    "sam": (SAM, {}),
    "sam-live": (SAM, {"index": "live"}),
    "sam-lsh": (SAM, {"index": "lsh"}),
    "sam-one-writer": (SAM, {"write_heads": 1, "erase": "gated", "strength": False}),
    "sdnc": (SDNC, {"link_entries": 5}),
}


def make(kind, options, shape, dtype=torch.float64):
    hidden, slots, width, heads, reads, *_ = shape
    torch.manual_seed(0)
    sizes = {**SIZES, "hidden": hidden, "slots": slots, "word_size": width, "heads": heads, "reads": min(reads, slots), "kernels": "native"}
    return kind(**sizes, **options).to(dtype)


@pytest.mark.parametrize("fill", ["full", "empty"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_as_on_the_cpu(shape, variant, fill, gpu):
    """In float64, where rounding does not decide which rows are read."""
    batch, steps = SHAPES[shape][-2:]
    model = make(*VARIANTS[variant], SHAPES[shape])
    expected = run_pass(copy.deepcopy(model), "cpu", batch, steps, fill=fill)
    assert_alike(expected, run_pass(model, gpu, batch, steps, fill=fill), 1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_chain_of_passes_as_on_the_cpu(variant, gpu):
    """The gradient of the memory goes from pass to pass; backward of all restores the memory."""
    model = make(*VARIANTS[variant], SHAPES["primes"])
    x = torch.randn(11, 7, 3, dtype=torch.float64)
    found = []
    for device in ("cpu", gpu):
        moved, parts = copy.deepcopy(model).to(device), x.to(device).requires_grad_()
        state = start = state_as_on_the_cpu(moved, 7, "full", 0)
        rows, outputs = start.memory.rows, []
        before = [tensor.clone() for tensor in (rows.memory, rows.norms, rows.ring.last)]
        for part in parts.split([4, 1, 6]):
            y, state = moved(part, state)
            outputs.append(y)
        gradients = torch.autograd.grad(torch.cat(outputs).square().sum(), [parts, *moved.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(before, (rows.memory, rows.norms, rows.ring.last), strict=True))
        found.append([tensor.detach().cpu() for tensor in (*outputs, *gradients)])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "variant", [name for name in VARIANTS if name != "sam-lsh"]
)  # there rounding decides on which side of a plane a row lies
def test_float32(variant, gpu):
    model = make(*VARIANTS[variant], SHAPES["paper"], torch.float32)
    expected = run_pass(copy.deepcopy(model), "cpu", 4, 6)
    assert_alike(expected, run_pass(model, gpu, 4, 6), 1e-3)


def test_phases_are_timed(gpu):
    model = make(*VARIANTS["sdnc"], SHAPES["long"], torch.float32)
    with clocked() as clocks:
        run_pass(model, gpu, 2, 300)
    spent = clocks.spent_ns(abreast=2)
    assert {phase for direction, phase in spent if direction == "forward"} >= {"controller", "search", "write", "link", "read"}
    assert {phase for direction, phase in spent if direction == "backward"} >= {"controller", "read", "write", "rollback"}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("variant", ["sam", "sdnc"])
def test_many_blocks_search_one_element(variant, batch, gpu, monkeypatch):
    """The result is the same to the bit as when each block searches its own element."""
    model = make(*VARIANTS[variant], (30, 40009, 32, 3, 4), torch.float32)
    assert sequence.search_parts(40009, batch, gpu, 1) > 1
    many = run_pass(model, gpu, batch, 9)
    monkeypatch.setattr(sequence, "search_parts", lambda *sizes: 1)
    one = run_pass(model, gpu, batch, 9)
    for name, tensor in one.numbers.items():
        assert torch.equal(tensor, many.numbers[name]), name


def test_a_hundred_million_slots(gpu):
    """An empty memory of any size gives what a small one gives, as long as no row is used twice."""
    slots = 100_000_000
    if torch.cuda.mem_get_info(gpu)[0] < 1.3 * slots * (32 + 2) * 4:
        pytest.skip("needs 18 GB of free GPU memory")
    small = make(SAM, {"index": "live"}, (20, 1000, 32, 2, 3), torch.float32)
    large = make(SAM, {"index": "live"}, (20, slots, 32, 2, 3), torch.float32).to(gpu)
    large.load_state_dict(small.state_dict())
    x = torch.randn(20, 1, 3)
    y, after = large(x.to(gpu), state := large.initial_state(1))
    torch.testing.assert_close(y.cpu(), small(x)[0], rtol=1e-3, atol=1e-5)
    y.sum().backward()
    assert float(state.memory.memory[0, :1000].abs().sum()) == 0
    assert int(after.memory.rows.ring.last[0, -1]) == slots - 1


@pytest.fixture
def warm(gpu):
    """A model, its state and input, after passes that have compiled, loaded and allocated everything."""
    model = make(SAM, {}, SHAPES["paper"], torch.float32).to(gpu)
    state = model.initial_state(4, fill="full")
    x = torch.randn(12, 4, 3, device=gpu)
    for _ in range(3):
        model(x, state)[0].sum().backward()
    return model, state, x


def test_the_host_never_waits(warm):
    model, state, x = warm
    torch.cuda.synchronize()
    with no_wait():
        model(x, state)[1].rollback()
        y, after = model(x, state)
        y.backward(torch.ones_like(y))
        with torch.no_grad():
            model(x, after.detach())


def test_the_profiler_sees_no_wait_and_few_launches(warm):
    model, state, x = warm

    def one_pass():
        y, _ = model(x, state)
        y.backward(torch.ones_like(y))

    names = profiled_names(one_pass, [ProfilerActivity.CPU, ProfilerActivity.CUDA])
    kernels = [name for name in names if name.startswith("mb_")]
    assert {"mb_forward", "mb_backward"} <= set(kernels)
    waits = [name for name in names if "Synchronize" in name]
    assert len(waits) <= 1, waits  # the profiler's own, at its end


def test_graph_capture_and_replay(warm):
    model, state, x = warm
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            model.zero_grad(set_to_none=True)
            model(x, state)[0].square().sum().backward()
    torch.cuda.current_stream().wait_stream(side)
    model.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y, _ = model(x, state)
        y.square().sum().backward()
        y = y.detach()  # its graph would keep nodes of the capturing stream
    for seed in range(3):
        torch.manual_seed(seed)
        x.copy_(torch.randn_like(x))
        graph.replay()
        replayed = [y.clone(), *(parameter.grad.clone() for parameter in model.parameters())]
        wanted, _ = model(x, state)
        gradients = torch.autograd.grad(wanted.square().sum(), list(model.parameters()))
        for a, b in zip(replayed, [wanted.detach(), *gradients], strict=True):
            assert torch.equal(a, b)
        del wanted


def test_on_a_stream_of_its_own(warm):
    model, state, x = warm
    wanted = outputs_of_a_pass(model, state, x)
    model.zero_grad(set_to_none=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        got = outputs_of_a_pass(model, state, x)
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(wanted, got)


def outputs_of_a_pass(model, state, x):
    """y without its graph: a graph that lives on keeps nodes of its own stream, of which torch warns when another stream uses them."""
    y, _ = model(x, state)
    y.sum().backward()
    return y.detach()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38], ids=str)
def test_hostile_inputs(value, warm):
    """NaN and infinity cause no fault and no hang, and change neither other batch elements nor the restored memory."""
    model, state, x = warm
    start = state.memory.memory.clone()
    clean, _ = model(x, state)
    clean.sum().backward()
    x[3, 1] = value
    y, _ = model(x, state)
    y.sum().backward()
    others = [0, 2, 3]
    assert torch.equal(y[:, others], clean[:, others])
    assert torch.equal(state.memory.memory, start)


def test_mixed_devices_are_reported(gpu):
    model = make(SAM, {}, SHAPES["primes"], torch.float32).to(gpu)
    with pytest.raises(ValueError, match=r"expected torch\.float32 on cuda"):
        model(torch.randn(2, 1, 3))
