"""A pass taken apart: steps, phases and their backward, on modules whose work is known."""

import time

import torch
from torch.profiler import record_function

from mann_bench.measure.trace import BACKWARD, FORWARD, REST, Block, Place, held_at, mark, recording
from mann_bench.models import NTM
from mann_bench.models.phases import phase, steps


class Slow(torch.autograd.Function):
    """Takes a known time forward and another backward."""

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
    with recording("cpu") as trace:
        with mark(FORWARD):
            y = pass_()
        with mark(BACKWARD):
            y.sum().backward()
    return trace


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

    trace = record(forward)
    ms = {place: spent.host_ns / 1e6 for place, spent in trace.spent.items()}
    for step in range(3):
        assert 4 * (step + 1) <= ms[FORWARD, step, "write"] < 4 * (step + 1) + 15
        assert 20 <= ms[FORWARD, step, "read"] < 35
        assert 30 <= ms[BACKWARD, step, "write"] < 45
        assert 3 <= ms[BACKWARD, step, "read"] < 18
    assert 30 <= ms[Place(FORWARD, None, REST)] < 60
    assert list(trace.step_ends[FORWARD]) == [0, 1, 2]
    ends = trace.step_ends[BACKWARD]
    assert ends[0] > ends[1] > ends[2]
    for direction in (FORWARD, BACKWARD):  # every nanosecond is somewhere, and once
        start, end = trace.marks[direction]
        assert abs(sum(spent.host_ns for place, spent in trace.spent.items() if place.direction == direction) - (end - start)) < 1e5


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

    places = set(record(forward).spent)
    assert {Place(BACKWARD, 0, "write"), Place(BACKWARD, 1, "write")} <= places
    assert Place(BACKWARD, 0, "addressing") not in places


def test_blocks_are_born_and_die():
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


def test_held_at_counts_a_block_from_its_birth_to_its_death():
    blocks = [Block(1, 10, 5, 20), Block(2, 1, 10), Block(3, 100, -1, 6)]
    assert held_at(blocks, [0, 5, 6, 10, 19, 20, 99]) == [100, 110, 10, 11, 11, 1, 1]


def test_phases_cost_nothing_without_a_profiler_and_change_no_number():
    model = NTM(input_size=4, output_size=3, slots=16)
    x = torch.randn(5, 1, 4)
    plain = model(x)[0]
    with recording("cpu") as trace, mark(FORWARD):
        y = model(x)[0]
    assert torch.equal(plain, y)
    phases = {place.phase for place in trace.spent}
    assert phases == {"controller", "addressing", "write", "read", REST}
    began = time.perf_counter()
    for _ in range(1000):
        with phase("write"):
            pass
    assert time.perf_counter() - began < 0.1


def test_chrome_trace_carries_the_same_names(tmp_path):
    model = NTM(input_size=4, output_size=3, slots=16)
    with recording("cpu") as trace, mark(FORWARD):
        model(torch.randn(2, 1, 4))
    trace.export(tmp_path / "trace.json")
    text = (tmp_path / "trace.json").read_text()
    for name in ("controller", "addressing", "write", "read", "step 1"):
        assert f'"name": "{name}"' in text
