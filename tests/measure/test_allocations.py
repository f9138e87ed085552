"""The memory of a pass on a GPU, from the history of its allocator."""

import threading
import time
from typing import Any

import pytest
import torch

from mann_bench.data.case import Case
from mann_bench.measure.allocations import CudaHistory, allocations, changes_of
from mann_bench.measure.memory import build_recorded, held_by_cause, measure_pass
from mann_bench.measure.trace import BACKWARD, BEFORE, END, FORWARD, NEVER, Block, Trace, _Reader, recording
from mann_bench.measure.workload import ModelWorkload, Workload
from tests.support.gpu_memory import FakeHistory, entry
from tests.support.ledgers import Counters, check_peak

# The entries of a pass of SAM on an H100 (torch 2.11), without its 60 frames each, which are recorded only if asked for.
SAM = [
    {"action": "free_requested", "addr": 139868594744320, "size": 8, "stream": 0, "time_us": 1795799332015630, "compile_context": "N/A"},
    {"action": "free_completed", "addr": 139868594744320, "size": 8, "stream": 0, "time_us": 1795799332015633, "compile_context": "N/A"},
    {"action": "free_requested", "addr": 139868595009024, "size": 128, "stream": 0, "time_us": 1795799332015653, "compile_context": "N/A"},
    {"action": "free_completed", "addr": 139868595009024, "size": 128, "stream": 0, "time_us": 1795799332015653, "compile_context": "N/A"},
    {"action": "alloc", "addr": 139868594744320, "size": 8, "stream": 0, "time_us": 1795799332015827, "compile_context": "N/A"},
    {"action": "alloc", "addr": 139868595038720, "size": 30096, "stream": 0, "time_us": 1795799332016086, "compile_context": "N/A"},
    {"action": "alloc", "addr": 139868595015680, "size": 1600, "stream": 0, "time_us": 1795799332016331, "compile_context": "N/A"},
    {"action": "free_requested", "addr": 139868595015680, "size": 1600, "stream": 0, "time_us": 1795799332016614, "compile_context": "N/A"},
    {"action": "free_completed", "addr": 139868595015680, "size": 1600, "stream": 0, "time_us": 1795799332016615, "compile_context": "N/A"},
    {"action": "alloc", "addr": 139868595015680, "size": 1024, "stream": 0, "time_us": 1795799332017667, "compile_context": "N/A"},
]


def read(entries, held=None):
    trace = Trace([*held] if held else [])
    _Reader(trace, changes_of(entries)).read([])
    return trace


def test_entries_of_a_real_history():
    changes = changes_of(SAM)
    assert [change.size_bytes for change in changes] == [-8, -128, 8, 30096, 1600, -1600, 1024]
    assert changes[0] == (1795799332015630000, 139868594744320, -8, -8)
    assert changes[-1] == (1795799332017667000, 139868595015680, 1024, 8 - 8 - 128 + 30096 + 1024)
    trace = read(SAM)
    assert trace.totals == [(change.when_ns, change.total_bytes) for change in changes]
    assert [(block.size_bytes, block.died_ns) for block in trace.blocks] == [
        (8, NEVER), (30096, NEVER), (1600, 1795799332016614000), (1024, NEVER),
    ]  # fmt: skip


def test_segments_and_failed_allocations_are_no_blocks():
    out_of_memory = {"action": "oom", "size": 2**40, "stream": 0, "time_us": 7, "device_free": 2**30}
    other = [entry(action, 0, 2**21, 8) for action in ("segment_alloc", "segment_free", "segment_map", "snapshot")]
    assert changes_of([out_of_memory, *other]) == []


def test_order_within_a_microsecond_is_kept():
    """Block 5 is allocated and released, and its place given out again, while a small one waits in between."""
    actions = [("alloc", 5, 4000), ("alloc", 9, 8), ("free_requested", 5, 4000), ("free_completed", 5, 4000), ("alloc", 5, 700)]
    trace = read([entry(*action, 10) for action in actions])
    assert [total for _, total in trace.totals] == [4000, 4008, 8, 708]
    times = [when for when, _ in trace.totals]
    assert times == sorted(set(times))
    assert 10_000 == times[0] < times[-1] < 11_000
    first, small, second = trace.blocks
    assert (first.born_ns, first.died_ns, second.born_ns, second.died_ns) == (times[0], times[2], times[3], NEVER)
    peak_ns = max(trace.totals, key=lambda total: total[1])[0]
    assert sum(block.size_bytes for block in trace.blocks if block.lives_at(peak_ns)) == 4008
    assert small.lives_at(times[-1])


def test_the_history_is_ended_whatever_happens(monkeypatch):
    history = FakeHistory()
    with pytest.raises(KeyError), recording("cuda", history=history):
        raise KeyError("of the model")
    assert history.calls == ["start", "end"]

    def start():
        raise RuntimeError("started, and then something went wrong")

    monkeypatch.setattr(history, "start", start)
    with pytest.raises(RuntimeError, match="went wrong"), recording("cuda", history=history):
        pass
    assert history.calls == ["start", "end", "end"]


def test_a_model_that_records_the_history_itself_is_found():
    history = FakeHistory()
    kept = []

    def record():
        with recording("cuda", history=history):
            kept.append(history.allocate(400))
            with allocations(history):  # as a model might: what was recorded before is lost
                pass
            history.start()
            kept.append(history.allocate(400))

    with pytest.raises(RuntimeError, match="expected 2 more blocks as the allocator counts them, got 1"):
        record()
    assert not history.recorded


def test_torch_is_asked_for_a_history_without_stacks_on_the_right_gpu(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", lambda **options: calls.append(options))
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", lambda: {"segments": [], "device_traces": [[], SAM]})
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: {"allocation.all.current": 7 + len(calls)})
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    for device in ("cuda", "cuda:1"):
        calls.clear()
        with allocations(CudaHistory(device)) as changes:
            pass
        assert changes == changes_of(SAM)
        assert calls == [{"enabled": "all", "context": None, "stacks": "python", "clear_history": True}, {"enabled": None}]


class OnGpu(Workload):
    """Training whose backward runs in a thread of its own, as autograd's does for a GPU. Bytes: each block has a size of its own."""

    def __init__(self, history, leak_bytes=0):
        super().__init__(Case(suite="s", model="lstm", slots=4, mode="train", device="cuda"))
        self.gpu, self.leak_bytes, self.kept = history, leak_bytes, []
        self.weight, self.state, self.hidden = history.allocate(40_000), [history.allocate(4_000)], history.allocate(16_000)

    def parameters(self):
        return {"weight": self.weight}

    def forward(self, steps=None):
        workspace = self.gpu.allocate(200_000)
        self.tape = [self.gpu.allocate(100_000)]
        del workspace
        if self.leak_bytes:
            self.kept.append(self.gpu.allocate(self.leak_bytes))
        return self.gpu.allocate(800), [self.gpu.allocate(60_000)]

    def backward(self, y):
        def engine():
            scratch = self.gpu.allocate(300_000)
            self.weight.grad = self.gpu.allocate(40_000)
            self.tape.clear()
            del scratch

        thread = threading.Thread(target=engine)
        thread.start()
        thread.join()

    def clear(self):
        self.weight.grad = None


@pytest.fixture
def build(monkeypatch):
    """Builds the workload on a GPU whose history is fake."""
    history = FakeHistory()
    monkeypatch.setattr("mann_bench.measure.trace.CudaHistory", lambda device: history)
    return lambda **options: build_recorded("cuda", lambda: OnGpu(history, **options))


def test_what_is_allocated_outside_ranges_and_in_other_threads_is_in_the_ledger(build):
    workload, hidden_bytes = build()
    assert hidden_bytes == 16_000
    for _ in range(2):
        measured = measure_pass(workload, hidden_bytes=hidden_bytes)
        ledger = measured.ledger()
        assert measured.start_bytes == 60_000
        assert measured.pass_bytes == 100_000 + 800 + 60_000 + 300_000 + 40_000
        assert {cause: size for cause, size in ledger.items() if size} == {
            "parameters": 40_000, "gradients": 40_000, "state": 4_000, "tape": 160_000, "workspace": 300_800, "unattributed": 16_000,
        }  # fmt: skip
        assert measured.tape_bytes == 160_000
        assert measured.grown_bytes == 0
        assert held_by_cause(measured, [measured.trace.after(BACKWARD)])["tape"] == [60_000]
        for earlier, later in ((FORWARD, BACKWARD), (BACKWARD, END)):  # times of the history are cut to microseconds
            margins = (
                measured.trace.after(earlier) - measured.trace.marks[earlier][1],
                measured.trace.marks[later][0] - measured.trace.after(earlier),
            )
            assert min(margins) >= 500_000


def test_a_leak_on_a_gpu_is_found(build):
    workload, hidden_bytes = build(leak_bytes=12_000)
    measure_pass(workload)
    assert measure_pass(workload, hidden_bytes=hidden_bytes).grown_bytes == 12_000


def test_a_wrong_peak_is_found_by_the_allocators_own(build):
    workload, hidden_bytes = build()
    measured = measure_pass(workload, hidden_bytes=hidden_bytes)
    others = 10**9
    before = Counters(others, others, others, others)
    peak, rounded = measured.pass_bytes, measured.pass_bytes + 5 * 400

    def after(requested, allocated):
        return Counters(others, others + requested, others, others + allocated)

    check_peak(measured, before, after(peak, rounded))
    for wrong in (after(int(1.04 * peak), rounded), after(int(0.96 * peak), rounded), after(peak, int(1.1 * rounded)), after(0, 0)):
        with pytest.raises(AssertionError):
            check_peak(measured, before, wrong)


def test_a_history_tells_what_the_profiler_tells_on_a_cpu(monkeypatch):
    """The same blocks are held after forward, after backward and at the end of each step, although times are cut to microseconds."""
    monkeypatch.setattr("mann_bench.measure.memory.keep_apart", lambda device: time.sleep(0.001))
    workload = ModelWorkload(Case(suite="s", model="ntm", slots=64, steps=4, kernels="torch"))
    workload.run_pass()
    workload.clear()
    trace = measure_pass(workload, operations=True).trace
    actions = [(block.born_ns, "alloc", block) for block in trace.blocks if block.born_ns != BEFORE]
    actions += [(block.died_ns, "free_requested", block) for block in trace.blocks if block.died_ns != NEVER]
    actions.sort(key=lambda action: action[0])
    entries = [entry(action, block.address, block.size_bytes, when_ns // 1000) for when_ns, action, block in actions]
    assert len({one["time_us"] for one in entries}) < len(entries)  # some share a microsecond
    again = Trace([Block(block.address, block.size_bytes, BEFORE) for block in trace.blocks if block.born_ns == BEFORE])
    assert trace.profiler is not None
    assert trace.profiler.kineto_results is not None
    roots: Any = trace.profiler.kineto_results.experimental_event_tree()
    _Reader(again, changes_of(entries)).read(roots)
    assert [total for _, total in again.totals] == [total for _, total in trace.totals]
    assert again.step_ends == trace.step_ends
    moments = [*trace.step_ends[FORWARD].values(), trace.after(FORWARD), trace.after(BACKWARD)]
    for moment in moments:
        assert [block.address for block in again.blocks if block.lives_at(moment)] == [
            block.address for block in trace.blocks if block.lives_at(moment)
        ]
