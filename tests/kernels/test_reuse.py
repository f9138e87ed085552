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


def tape(count: int = COUNT, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return reuse.empty_tape(torch.empty(0, dtype=dtype), count)


def test_what_the_last_user_releases_is_used_again(kept):
    first = tape()
    place, view = first.data_ptr(), first[4:].view(-1, 2)
    del first
    assert kept.buffer is None
    view.fill_(1)
    del view
    assert kept.buffer is not None
    second = tape(COUNT // 2, torch.float64)
    assert (second.data_ptr(), second.shape, second.dtype) == (place, (COUNT // 2,), torch.float64)
    assert kept.buffer is None


def test_tapes_in_use_share_nothing(kept):
    first, second = tape().fill_(1), tape().fill_(2)
    assert bool((first == 1).all())
    larger = tape(2 * COUNT)
    del first, second, larger
    assert kept.buffer.numel() == 8 * COUNT


def test_a_buffer_that_does_not_fit_is_given_up(kept):
    kept.give_back(torch.empty(4 * COUNT - 1, dtype=torch.uint8))
    assert tape().shape == (COUNT,)
    assert kept.buffer.numel() == 4 * COUNT
    tape(3 * COUNT)
    assert kept.buffer.numel() == 12 * COUNT
    tape()
    assert kept.buffer.numel() == 4 * COUNT


def test_small_tapes_are_not_kept(kept):
    tape(COUNT - 1)
    assert kept.buffer is None


def test_a_profiler_sees_all_memory(kept):
    tape()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        tape()
    assert sum(event.self_cpu_memory_usage for event in profile.key_averages() if event.self_cpu_memory_usage > 0) >= 4 * COUNT
    assert kept.buffer is not None
