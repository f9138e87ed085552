"""Speed-up, memory ratio and crossover of planted curves."""

import pytest

from mann_bench.reports.frame import load_frame
from mann_bench.reports.ratios import crossovers, ratios
from tests.results import make_result


def frame_of(tmp_path, *results):
    run = tmp_path / "run"
    run.mkdir()
    (run / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    return load_frame([run])


def curves(sam_ms, ntm_ms):
    sizes = [64, 256, 1024]
    sam = [make_result("sam", n, ms=ms, per_step=100) for n, ms in zip(sizes, sam_ms, strict=True)]
    return [*sam, *(make_result("ntm", n, ms=ms, per_step=n * 10) for n, ms in zip(sizes, ntm_ms, strict=True))]


def test_ratio_and_its_interval(tmp_path):
    found = ratios(frame_of(tmp_path, *curves([1, 1, 1], [0.5, 2, 8])))
    assert [r.slots for r in found] == [64, 256, 1024]
    assert found[2].speedup == pytest.approx(8)
    assert found[2].speedup_low == pytest.approx(8 * 0.99 / 1.01)
    assert found[2].tape_ratio == pytest.approx(102.4)


def test_crossover_between_sizes(tmp_path):
    crossover = crossovers(frame_of(tmp_path, *curves([1, 1, 1], [0.5, 2, 8])))[0]
    assert (crossover.after, crossover.before) == (64, 256)
    assert crossover.slots == pytest.approx(128)
    assert "between N = 64 and 256" in crossover.words


def test_always_or_never_faster(tmp_path):
    (tmp_path / "a").mkdir()
    assert "faster at every N" in crossovers(frame_of(tmp_path / "a", *curves([1, 1, 1], [2, 3, 4])))[0].words
    assert "not faster" in crossovers(frame_of(tmp_path, *curves([2, 2, 2], [3, 1, 1])))[0].words


def test_other_settings_are_not_compared(tmp_path):
    found = ratios(frame_of(tmp_path, make_result("sam", 64), make_result("ntm", 64, mode="infer"), make_result("lstm", 64)))
    assert found == []
