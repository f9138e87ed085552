"""How long a run still takes: predictions, corrected by how long the finished cases took."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import ProgressColumn, Task
from rich.text import Text

from mann_bench.data.units import format_duration

TRUST_S = 30.0  # predicted seconds that must be behind before what cases took counts as much as what was predicted
LINE_S = 30.0  # between two lines about the time left where the output is no terminal


class TimeLeft:
    """The time that is left of a run.

    Args:
        predicted_s: seconds that each case will take, by id; those that need not run are left out.
        clock: seconds since any moment.
    """

    def __init__(self, predicted_s: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._open = dict(predicted_s)
        self._clock, self._began = clock, clock()
        self._done_s = 0.0  # predicted for what has finished
        self._finished = self._began  # when the last case finished

    def finish(self, case_id: str) -> None:
        """Note that a case has finished."""
        self._done_s += self._open.pop(case_id, 0.0)
        self._finished = self._clock()

    def seconds(self) -> float:
        """Seconds until the end, at least 1."""
        took = self._finished - self._began
        factor = (took + TRUST_S) / (self._done_s + TRUST_S)
        return max(1.0, factor * sum(self._open.values()) - (self._clock() - self._finished))

    def __str__(self) -> str:
        seconds = self.seconds()
        return f"about {format_duration(round(seconds) if seconds < 60 else float(f'{seconds:.2g}'))} left"


class TimeLeftColumn(ProgressColumn):
    """The time left, at the end of a progress bar."""

    def __init__(self, time_left: TimeLeft) -> None:
        super().__init__()
        self.time_left = time_left

    def render(self, task: Task) -> Text:
        """Show it as it is now."""
        return Text(str(self.time_left))


@contextmanager
def repeatedly(action: Callable[[], None], every_s: float = LINE_S) -> Iterator[None]:
    """Call an action every so often, in a thread, for as long as the context is open."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
