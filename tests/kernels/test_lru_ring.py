"""The LRU ring against a plain list, and its undo."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mann_bench.kernels import ops
from mann_bench.kernels.reference import LruRing

ROWS = 7
accesses = st.lists(
    st.one_of(st.just(None), st.lists(st.tuples(st.integers(0, ROWS - 1), st.booleans()), min_size=3, max_size=3)), max_size=60
)


def replay(ring: LruRing, naive: list[int], trace) -> None:
    for step in trace:
        if step is None:
            popped = naive.pop(0)
            naive.append(popped)
            assert ring.pop().tolist() == [popped]
            continue
        for row, accessed in step:
            if accessed:
                naive.remove(row)
                naive.append(row)
        ring.touch(torch.tensor([[row for row, _ in step]]), torch.tensor([[accessed for _, accessed in step]]))


@settings(deadline=None, max_examples=60)
@given(accesses, accesses)
def test_equals_a_list_and_undo_restores_it(first, second):
    ring, naive = LruRing(1, ROWS), list(range(ROWS))
    ring.begin(log=False)
    replay(ring, naive, first)
    assert ring.order().tolist() == [naive]

    mark = ring.begin(log=True)
    before = naive.copy()
    replay(ring, naive, second)
    end, log = ring.mark(), ring.end_log()
    ring.undo(mark, log)
    assert ring.order().tolist() == [before]
    ring.redo(end)
    assert ring.order().tolist() == [naive]


def test_compaction_keeps_the_order():
    ring, naive = LruRing(2, ROWS), list(range(ROWS))
    for _ in range(400):
        ring.begin(log=False)
        row = naive.pop(0)
        naive.append(row)
        assert ring.pop().tolist() == [row, row]
        ring.touch(torch.tensor([[3, 3, 5]] * 2), torch.tensor([[True, True, False]] * 2))
        naive.remove(3)
        naive.append(3)
    assert ring.tail < 3 * ROWS + 1024 + 8
    assert ring.order().tolist() == [naive, naive]


@pytest.mark.parametrize("kind", [LruRing, ops.LruRing])
def test_positions_beyond_int32_are_refused(kind):
    with pytest.raises(ValueError, match=r"slots: expected at most 715827541 .*, got 715827542"):
        kind(1, 715_827_542, device="meta")
    ring = kind(1, 715_827_541, device="meta")
    with pytest.raises(ValueError, match="expected a pass of at most 1431656106 accesses to rows, got 1431656107; run fewer steps"):
        ring.reserve(2**31 - 1 - ring.rows + 1)


def test_elements_are_independent():
    ring = LruRing(2, 3)
    ring.touch(torch.tensor([[0], [1]]), torch.tensor([[True], [True]]))
    assert ring.order().tolist() == [[1, 2, 0], [0, 2, 1]]
    assert ring.pop().tolist() == [1, 0]
