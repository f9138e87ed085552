"""The ledger on the GPU, against the caching allocator's peak."""

import threading

import pytest
import torch

from mann_bench.measure.allocations import keep_apart
from mann_bench.measure.trace import FORWARD, mark, recording
from tests.support.ledgers import LEDGER_MODELS, check_ledger


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize(("model", "slots"), LEDGER_MODELS)
def test_ledger_residual_of_every_model_is_under_3_percent(model, slots, mode, gpu):
    check_ledger(model, slots, mode, str(gpu), 0.03)


def test_every_allocation_is_recorded_at_the_time_of_its_range(gpu):
    """The history and the profiler read one clock. Half of the pause between two ranges is the room that they have to differ."""
    kept = []

    def allocate(size_bytes):
        kept.append(torch.empty(size_bytes, dtype=torch.uint8, device=gpu))

    with recording(str(gpu)) as trace:
        allocate(1000)
        keep_apart(str(gpu))
        with mark(FORWARD):
            allocate(2000)
            thread = threading.Thread(target=allocate, args=(3000,))
            thread.start()
            thread.join()
        keep_apart(str(gpu))
        allocate(5000)
        del kept[:2]
    start, end = trace.marks[FORWARD]
    room_ns = 500_000
    blocks = {block.size_bytes: block for block in trace.blocks}
    assert list(blocks) == [1000, 2000, 3000, 5000]
    assert blocks[1000].born_ns < start
    assert all(start - room_ns < blocks[size].born_ns < end + room_ns for size in (2000, 3000))
    assert end < blocks[5000].born_ns
    assert not blocks[1000].lives_at(2**62)
    assert not blocks[2000].lives_at(2**62)
    totals = [total for _, total in trace.totals]
    assert totals[:4] == [1000, 3000, 6000, 11000]
    assert totals[4:] in ([10000, 8000], [9000, 8000])  # the first two are released in either order
    assert {tensor.untyped_storage().data_ptr() for tensor in kept} == {blocks[size].address for size in (3000, 5000)}
