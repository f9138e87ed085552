"""The memory of a large tape, kept for the next pass."""

import pytest
import torch

from mann_bench.kernels.native import reuse
from mann_bench.kernels.native.huge_pages import LEAST_BYTES

COUNT = LEAST_BYTES // 4


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setattr(reuse, "_kept", reuse._Kept())
    return reuse._kept


def make(count: int = COUNT, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return reuse.unset(torch.empty(0, dtype=dtype), (count,))


def sizes(kept) -> list[int]:
    return [block.numel() for block, _ in kept.blocks]


def test_what_the_last_user_releases_is_used_again(kept):
    first = make()
    place, view = first.data_ptr(), first[4:].view(-1, 2)
    del first
    assert sizes(kept) == []
    view.fill_(1)
    del view
    assert sizes(kept) == [4 * COUNT]
    second = reuse.unset(torch.empty(0, dtype=torch.float64), (2, COUNT // 4))
    assert (second.data_ptr(), second.shape, second.dtype) == (place, (2, COUNT // 4), torch.float64)
    assert (second.is_contiguous(), second._is_view()) == (True, False)
    assert sizes(kept) == []


def test_tensors_in_use_share_nothing(kept):
    first, second = make().fill_(1), make().fill_(2)
    assert bool((first == 1).all())
    del first, second
    assert sizes(kept) == [4 * COUNT, 4 * COUNT]


def test_only_a_block_of_the_same_size_is_used(kept):
    held = [make(COUNT + part) for part in (9, 5, 7)]
    held.clear()
    held = [make(COUNT + 7)]
    assert held[0].shape == (COUNT + 7,)
    assert sorted(sizes(kept)) == [4 * (COUNT + part) for part in (5, 9)]


def test_the_oldest_make_room_for_other_sizes(kept):
    held = [make(part * COUNT) for part in (2, 2, 4)]
    while held:
        held.pop(0)
    held = [make(2 * COUNT - 1)]
    assert sizes(kept) == [8 * COUNT, 8 * COUNT, 16 * COUNT]
    held += [make(COUNT - 1 + COUNT // 2)]
    assert sizes(kept) == [8 * COUNT, 16 * COUNT]
    held += [make(8 * COUNT)]  # more than was ever in use
    assert sizes(kept) == []
    assert sum(tensor.nbytes for tensor in held) == kept.used_bytes == kept.most_used_bytes


def test_what_nobody_takes_is_given_up(kept):
    held = [make(2 * COUNT), make(2 * COUNT)]
    held.clear()
    for _ in range(reuse.MOST_WAIT):
        assert sizes(kept)[:2] == [8 * COUNT, 8 * COUNT]
        make()
    make()
    assert sizes(kept) == [4 * COUNT]


def test_where_memory_ends_what_is_kept_makes_room(kept, monkeypatch):
    make()
    empty = torch.empty

    def limited(size, **options):
        if kept.blocks or size > 8 * COUNT:
            raise RuntimeError("can't allocate memory")
        return empty(size, **options)

    monkeypatch.setattr(reuse.torch, "empty", limited)
    like = empty(0)
    held = reuse.unset(like, (COUNT + 1,))
    assert held.shape == (COUNT + 1,)
    with pytest.raises(RuntimeError, match="can't allocate"):
        reuse.unset(like, (3 * COUNT,))
    assert kept.used_bytes == held.nbytes


def test_small_ones_are_not_kept(kept):
    make(COUNT - 1)
    assert sizes(kept) == []


def test_a_profiler_sees_all_memory(kept):
    make()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        make()
    assert sum(event.self_cpu_memory_usage for event in profile.key_averages() if event.self_cpu_memory_usage > 0) >= 4 * COUNT
    assert sizes(kept) == [4 * COUNT]
