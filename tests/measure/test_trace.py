"""A recorded pass: time of steps, phases and their backward, on modules whose work is known."""

import time
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import record_function

from mann_bench.measure.nesting import nested_by_time
from mann_bench.measure.trace import BACKWARD, FORWARD, NODE, REST, Block, Scope, Trace, _Reader, held_at, mark, recording
from mann_bench.models import NTM
from mann_bench.models.phases import phase, steps
from tests.support.gpu_memory import FakeHistory


class Slow(torch.autograd.Function):
    """An operation that takes a known time in forward and another in backward."""

    @staticmethod
    def forward(ctx, x, forward_s, backward_s):
        ctx.backward_s = backward_s
        time.sleep(forward_s)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        time.sleep(ctx.backward_s)
        return grad, None, None


def record(pass_):
    with recording("cpu", operations=True) as trace:
        with mark(FORWARD):
            y = pass_()
        with mark(BACKWARD):
            y.sum().backward()
    return trace


@pytest.mark.timed
def test_time_goes_to_step_phase_and_direction():
    x = torch.ones(3, requires_grad=True)

    def forward():
        y = x
        for number, _ in enumerate(steps(range(3))):
            with phase("write"):
                y = Slow.apply(y, 0.004 * (number + 1), 0.03)
            with phase("read"):
                y = Slow.apply(y, 0.02, 0.003)
        time.sleep(0.03)
        return y

    traces = [record(forward) for _ in range(3)]  # on a machine that others use, one may be late
    ms = {scope: min(trace.scope_times[scope].host_ns for trace in traces) / 1e6 for scope in traces[0].scope_times}
    trace = traces[0]
    for step in range(3):
        assert 4 * (step + 1) <= ms[FORWARD, step, "write"] < 4 * (step + 1) + 15
        assert 20 <= ms[FORWARD, step, "read"] < 35
        assert 30 <= ms[BACKWARD, step, "write"] < 45
        assert 3 <= ms[BACKWARD, step, "read"] < 18
    assert 30 <= ms[Scope(FORWARD, None, REST)] < 60
    assert list(trace.step_ends[FORWARD]) == [0, 1, 2]
    ends = trace.step_ends[BACKWARD]
    assert ends[0] > ends[1] > ends[2]
    for direction in (FORWARD, BACKWARD):  # every nanosecond is counted once
        start, end = trace.marks[direction]
        assert abs(sum(time.host_ns for scope, time in trace.scope_times.items() if scope.direction == direction) - (end - start)) < 1e5


def test_backward_of_shared_and_gradless_operations_finds_its_step():
    """Operations that make no node share a sequence number with the next one; work without gradients must not take its place."""
    x = torch.ones(3, requires_grad=True)

    def forward():
        y = x
        for _ in steps(range(2)):
            with phase("addressing"), torch.no_grad():
                constant = (x * 2).sum()
            with phase("write"):
                y = y * constant
        return y

    scopes = set(record(forward).scope_times)
    assert {Scope(BACKWARD, 0, "write"), Scope(BACKWARD, 1, "write")} <= scopes
    assert Scope(BACKWARD, 0, "addressing") not in scopes


def test_allocations_and_releases_are_paired():
    with recording("cpu") as trace:
        kept = torch.ones(1000)
        with record_function("between"):
            gone = torch.ones(2000)
            del gone
    sizes = {block.size_bytes: block for block in trace.blocks}
    assert sizes[8000].died_ns > sizes[8000].born_ns > sizes[4000].born_ns
    assert sizes[4000].lives_at(2**62)
    assert max(total for _, total in trace.totals) == 12000
    assert trace.totals[-1][1] == 4000
    assert kept.untyped_storage().data_ptr() == sizes[4000].address


def test_a_block_from_before_that_is_freed():
    with recording("cpu"):
        early = torch.ones(5000)
    address = early.untyped_storage().data_ptr()
    with recording("cpu", {address: 20000}) as trace:
        del early
    assert trace.blocks[0].died_ns > 0
    assert trace.totals[-1][1] == -20000


def test_held_at_counts_a_block_from_allocation_to_release():
    blocks = [Block(1, 10, 5, 20), Block(2, 1, 10), Block(3, 100, -1, 6)]
    assert held_at(blocks, [0, 5, 6, 10, 19, 20, 99]) == [100, 110, 10, 11, 11, 1, 1]


@pytest.mark.timed
def test_phases_cost_nothing_without_a_profiler_and_change_no_number():
    model = NTM(input_size=4, output_size=3, slots=16, kernels="torch")
    x = torch.randn(5, 1, 4)
    plain = model(x)[0]
    with recording("cpu") as trace, mark(FORWARD):
        y = model(x)[0]
    assert torch.equal(plain, y)
    phases = {scope.phase for scope in trace.scope_times}
    assert phases == {"controller", "addressing", "write", "read", REST}
    began = time.perf_counter()
    for _ in range(1000):
        with phase("write"):
            pass
    assert time.perf_counter() - began < 0.1


def test_chrome_trace_carries_the_same_names(tmp_path):
    model = NTM(input_size=4, output_size=3, slots=16, kernels="torch")
    with recording("cpu") as trace, mark(FORWARD):
        model(torch.randn(2, 1, 4))
    trace.export(tmp_path / "trace.json")
    text = (tmp_path / "trace.json").read_text()
    for name in ("controller", "addressing", "write", "read", "step 1"):
        assert f'"name": "{name}"' in text


class Event:
    """An event of the profiler's tree: what an operation on the host, the CUDA runtime or a GPU leaves there."""

    def __init__(self, name, start, end, *children, sequence_number=None):
        self.name, self.start_time_ns, self.end_time_ns, self.duration_time_ns = name, start, end, end - start
        self.tag = "_EventType.Kineto" if sequence_number is None else "_EventType.TorchOp"
        self.extra_fields = SimpleNamespace() if sequence_number is None else SimpleNamespace(sequence_number=sequence_number)
        self.children, self.parent, self.start_tid = list(children), None, 1
        for child in children:
            child.parent = self


def launch(start, kernel, nested=False):
    """A call of the CUDA driver, perhaps made by its runtime, and the kernel it starts."""
    call = Event("cuLaunchKernel", start, start + 1, kernel)
    return Event("cudaLaunchKernel", start, start + 2, call) if nested else call


def read(*roots):
    trace = Trace()
    _Reader(trace, []).read(list(roots))
    return trace


def nest(*roots):
    return nested_by_time(list(roots))


@pytest.mark.parametrize("nested", [False, True])
def test_time_of_kernels_goes_to_the_phase_that_launched_them(nested):
    kernels = [Event(name, 50, 50 + ns) for name, ns in (("mb_forward", 7), ("cutlass::Kernel2", 30), ("Memset (Device)", 100))]
    op = Event("aten::mm", 2, 9, *(launch(2 + number, kernel, nested) for number, kernel in enumerate(kernels)), sequence_number=3)
    trace = read(Event(FORWARD, 0, 20, Event("read", 1, 10, op, sequence_number=-1), sequence_number=-1))
    assert trace.scope_times[Scope(FORWARD, None, "read")].device_ns == 137
    assert trace.scope_times[Scope(FORWARD, None, REST)].device_ns == 0


def test_what_a_gpu_repeats_of_the_host_is_no_range():
    """Its profiler gives each range of the host again, at the time of the range's kernels."""
    again = [Event(name, 500, 900, Event("cudaLaunchKernel", 501, 502)) for name in (FORWARD, "step 0", "read")]
    on_host = Event("step 0", 1, 8, Event("read", 2, 7, sequence_number=-1), sequence_number=-1)
    trace = read(Event(FORWARD, 0, 10, on_host, sequence_number=-1), *again)
    assert trace.marks[FORWARD] == (0, 10)
    assert trace.step_ends[FORWARD] == {0: 8}
    assert {scope: time.host_ns for scope, time in trace.scope_times.items()} == {
        Scope(FORWARD, None, REST): 3,
        Scope(FORWARD, 0, REST): 2,
        Scope(FORWARD, 0, "read"): 5,
    }


def test_ranges_that_a_copy_of_a_gpu_cuts_are_whole_again():
    """torch ends "step 1" where the copy ends in which it began: what follows in it is left outside."""
    kernels = [Event("mb_forward", 500, 507), Event("mb_forward", 507, 518)]
    early = Event("aten::mm", 45, 50, launch(46, kernels[0]), sequence_number=1)
    late = Event("read", 70, 75, Event("aten::mm", 71, 74, launch(72, kernels[1], nested=True), sequence_number=2), sequence_number=-1)
    cut = Event("step 0", 30, 60, Event("step 1", 40, 80, early, sequence_number=-1))  # the copy, and the range that began in it
    forward = Event(FORWARD, 0, 100, Event("step 0", 1, 20, sequence_number=-1), cut, late, sequence_number=-1)
    other_thread = Event(f"{NODE}MmBackward0", 42, 90, sequence_number=2)
    other_thread.start_tid = 2
    trace = read(*nest(forward, other_thread))
    found = {scope: (time.host_ns, time.device_ns) for scope, time in trace.scope_times.items()}
    assert found == {
        Scope(FORWARD, None, REST): (41, 0),
        Scope(FORWARD, 0, REST): (19, 0),
        Scope(FORWARD, 1, REST): (35, 7),
        Scope(FORWARD, 1, "read"): (5, 11),
        Scope(BACKWARD, 1, "read"): (48, 0),
    }
    assert trace.step_ends[FORWARD] == {0: 20, 1: 80}


def test_a_call_counts_for_the_thread_of_its_operation():
    """CUPTI may name another thread."""
    call = launch(12, Event("mb_forward", 50, 57))
    call.start_tid = 99
    op = Event("aten::mm", 11, 19, call, sequence_number=1)
    trace = read(*nest(Event(FORWARD, 0, 30, Event("read", 10, 20, op, sequence_number=-1), sequence_number=-1)))
    assert trace.scope_times[Scope(FORWARD, None, "read")].device_ns == 7


def test_nesting_by_time_is_the_profilers_own_where_nothing_cuts_it():
    with recording("cpu", operations=True) as trace, mark(FORWARD):
        NTM(input_size=4, output_size=3, slots=16, kernels="torch")(torch.randn(2, 1, 4))
    assert trace.profiler is not None
    assert trace.profiler.kineto_results is not None
    roots = trace.profiler.kineto_results.experimental_event_tree()
    again = Trace()
    _Reader(again).read(nested_by_time(roots))
    assert again.scope_times == trace.scope_times
    assert len(again.blocks) == len(trace.blocks)


@pytest.mark.parametrize(
    ("asked", "use_device", "profile_memory"),
    [({}, None, False), ({"operations": True}, None, True), ({"operations": True, "gpu_kernels": True}, "cuda", True)],
)
def test_memory_of_a_gpu_is_recorded_without_its_profiler(asked, use_device, profile_memory, monkeypatch):
    options = {}

    def profile(**given):
        options.update(given)
        return torch.autograd.profiler.profile(**{**given, "use_device": None})

    for name in ("profile", "_RangesAndMemory"):
        monkeypatch.setattr(f"mann_bench.measure.trace.{name}", profile)
    history = FakeHistory()
    with recording("cuda", history=history, **asked) as trace:
        on_gpu = history.allocate(4000)
        torch.ones(1000)  # what the profiler reports of the CPU is not counted for the GPU
    assert (options["use_device"], options["profile_memory"]) == (use_device, profile_memory)
    assert [(block.address, block.size_bytes) for block in trace.blocks] == [(on_gpu.data_ptr(), 4000)]


def test_time_of_nodes_in_a_thread_of_their_own_is_counted_once():
    """Of a backward on a GPU, the nodes run beside the range, except what the waiting thread does itself."""
    here = Event(f"{NODE}GraphRoot", 12, 15, sequence_number=-1)
    node = Event(f"{NODE}MmBackward0", 20, 60, sequence_number=7)
    op = Event("aten::mm", 1, 9, sequence_number=7)
    forward = Event(FORWARD, 0, 10, Event("step 0", 0, 10, op, sequence_number=-1), sequence_number=-1)
    trace = read(forward, Event(BACKWARD, 10, 70, here, sequence_number=-1), node)
    assert trace.scope_times[Scope(BACKWARD, None, REST)].host_ns == 60 - 40
    assert trace.scope_times[Scope(BACKWARD, 0, REST)].host_ns == 40
    assert trace.step_ends[BACKWARD] == {0: 60}
