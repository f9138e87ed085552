"""The time left of a run: predictions at first, and what cases took the more of them have finished."""

import time

from rich.progress import Progress

from mann_bench.data.suite import Budget, Suite, load_suite
from mann_bench.run.session import predicted_seconds
from mann_bench.run.time_left import TRUST_S, TimeLeft, TimeLeftColumn, repeatedly


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def test_at_the_start_it_is_what_was_predicted():
    assert TimeLeft({"a": 10.0, "b": 20.0}, Clock()).seconds() == 30
    assert str(TimeLeft({"a": 5000.0}, Clock())) == "about 1.39 h left"
    assert str(TimeLeft({"a": 50.4}, Clock())) == "about 50 s left"


def test_it_follows_what_cases_took_and_runs_down():
    clock = Clock()
    left = TimeLeft({str(number): TRUST_S for number in range(4)}, clock)
    clock.now += 3 * TRUST_S
    left.finish("0")
    assert left.seconds() == 2 * 3 * TRUST_S  # thrice what was predicted, believed by half
    clock.now += TRUST_S
    assert left.seconds() == 5 * TRUST_S
    clock.now += 100 * TRUST_S
    assert left.seconds() == 1
    left.finish("unknown")


def test_it_counts_only_what_will_run():
    suite = load_suite("quick")
    assert isinstance(suite, Suite)
    small = Suite(name="s", cases=suite.cases[:3], budget=Budget(memory="600k"))  # the NTMs take more
    first = suite.cases[0].case_id
    assert list(predicted_seconds(small)) == [first]
    assert predicted_seconds(small, {first}) == {}


def test_it_is_told_repeatedly_and_stands_in_the_bar():
    told = []
    with repeatedly(lambda: told.append(1), every_s=0.01):
        give_up = time.monotonic() + 10
        while len(told) < 3 and time.monotonic() < give_up:
            time.sleep(0.01)
    assert len(told) >= 3
    bar = Progress()
    bar.add_task("x", total=1)
    assert TimeLeftColumn(TimeLeft({"a": 7.0}, Clock())).render(bar.tasks[0]).plain == "about 7 s left"
