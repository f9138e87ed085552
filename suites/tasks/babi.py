"""bAbI: 20 kinds of small stories with questions, one network for all of them, one word a step.

The stories are the user's own copy of Weston et al. 2015, version 1.2: tasks_1-20_v1-2.tar.gz (or .xz), or what it unpacks to.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.data.errors import UsageError
from mann_bench.suites.tasks import files
from mann_bench.suites.tasks.task import Batch, Task

WHAT = "bAbI (tasks_1-20_v1-2.tar.gz, from which en-10k and en are read)"
ARCHIVES = r"tasks_1-20.*\.(tar\.\w+|tgz|zip)"
FILE = re.compile(r"(^|/)(?P<set>en-10k|en)/qa(?P<task>\d+)_[\w-]+_(?P<part>train|test)\.txt$")
WORD = re.compile(r"[a-z]+|[.?]")  # numbers are left out
ANSWER = "-"  # shown at each step where a word of an answer is due
TASKS = range(1, 21)
VALIDATION = 10  # one of so many training stories
SPLIT_SEED = 0
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Babi(Task):
    """All 20 tasks jointly, encoded as in Graves et al. 2016 (Methods, bAbI): one word a step, lower case, numbers left out, one-hot in and
    out (159 words in the archive as distributed: 156, '.', '?' and '-'). After each '?' stand as many '-' as the answer has words; only
    there is something due, and a question is right only if all its words are. An answer's group is its task, 1 to 20.

    A sequence is a whole story with its questions: a task drawn evenly, then one of its stories. Stories of a batch differ in length;
    the shorter ones are followed by silence. There is one level: a story's length is that of its task (qa4 24 words, qa3 up to 1,393),
    so a limit of length would leave out tasks, and the papers train without a curriculum.

    10% of the training stories of each task, by a fixed seed, are for validation; `held_out` are the test stories. The tasks are those
    of en-10k; where one is missing there (qa3 train in some copies) its 1,000 questions of en stand in.
    """

    name = "babi"
    answer = "class"
    level_means = "set of 20 tasks"
    levels = (1, 1)
    last_level = 1

    def __init__(self, data: Path, *, part: Part = "train") -> None:
        """`data`: a folder or archive. UsageError where it is missing, damaged or lacks a task."""
        self.data, self.part, self.corpus = data, part, load(data)
        self.fingerprint = files.fingerprint(data, ARCHIVES, FILE, WHAT)
        of_part = self.corpus.parts == PARTS.index(part)
        self.stories = [((self.corpus.tasks == task) & of_part).nonzero()[:, 0] for task in TASKS]  # their numbers, by task
        self.input_size = self.output_size = len(self.corpus.words)

    def held_out(self) -> "Babi":
        """The test stories."""
        return Babi(self.data, part="test")

    def validation(self) -> "Babi":
        """The training stories that are kept apart."""
        return Babi(self.data, part="validation")

    def steps(self, level: int) -> int:
        """Words of the longest story."""
        return int(self.corpus.lengths[torch.cat(self.stories)].max())

    def chance(self, level: int) -> float:
        """Share of wrong answers of one who always gives the task's commonest answer, over all tasks."""
        return sum(map(self.chance_of, TASKS)) / len(TASKS)

    def chance_of(self, group: int) -> float:
        """The same in one task."""
        counts = self.corpus.counts[self.part, group]
        return 1 - max(counts.values()) / counts.total()

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """B stories, each of a task drawn evenly; T is the longest's length."""
        self.check_level(level)
        tasks = torch.randint(len(TASKS), (batch,), generator=generator).tolist()
        places = torch.rand(batch, generator=generator).tolist()
        chosen = [self.stories[task][int(place * len(self.stories[task]))] for task, place in zip(tasks, places, strict=True)]
        return self._batch(torch.stack(chosen))

    def every(self, batch: int) -> Iterator[Batch]:
        """Each story once, the shortest first, so that little is padded."""
        stories = torch.cat(self.stories)
        for some in stories[self.corpus.lengths[stories].argsort(stable=True)].split(batch):
            yield self._batch(some)

    def due(self, batch: Batch) -> Tensor:
        """A question is counted at the last word of its answer."""
        return batch.mask * (1 - functional.pad(batch.mask[1:], (0, 0, 0, 1)))

    def wrong(self, y: Tensor, batch: Batch) -> Tensor:
        """1 at the last word of an answer with any wrong word [T, B]."""
        so_far = torch.zeros(y.shape[1])
        errors = super().wrong(y, batch)
        for t, mask in enumerate(batch.mask):
            so_far = (so_far + errors[t]).clamp(max=1) * mask
            errors[t] = so_far
        return errors * self.due(batch)

    def _batch(self, stories: Tensor) -> Batch:
        corpus, lengths = self.corpus, self.corpus.lengths[stories]
        t = torch.arange(int(lengths.max()))[:, None]
        inside = t < lengths  # [T, B]
        where = torch.where(inside, corpus.starts[stories] + t, 0)
        shown, answers = corpus.shown[where], torch.where(inside, corpus.answers[where], -1)
        inputs = functional.one_hot(shown.long(), self.input_size) * inside[..., None]
        group = corpus.tasks[stories].expand(inside.shape)
        return Batch(inputs.float(), answers.clamp(min=0).long(), (answers >= 0).float(), group)


@dataclass(frozen=True)
class Corpus:
    """All stories end to end: the word shown and the word due (or -1) at each step, as numbers; of each story its start, length, task, and
    part (a place in PARTS). `counts`: of each part and task, how often each answer is due.
    """

    words: list[str]
    shown: Tensor  # int16 [all words]
    answers: Tensor  # int16 [all words]
    starts: Tensor  # int64 [stories], as the three below
    lengths: Tensor
    tasks: Tensor
    parts: Tensor
    counts: dict[tuple[str, int], Counter[tuple[int, ...]]]


@lru_cache(maxsize=2)
def load(data: Path) -> Corpus:
    """Read the files of all tasks."""
    texts: dict[tuple[int, str], dict[str, str]] = {}
    for path, content in files.members(data, ARCHIVES, FILE, WHAT):
        match = FILE.search(path)
        assert match is not None  # members gives nothing else
        texts.setdefault((int(match["task"]), match["part"]), {}).setdefault(match["set"], content.decode())
    missing = [f"qa{task} {part}" for task in TASKS for part in ("train", "test") if (task, part) not in texts]
    if missing:
        raise UsageError(f"{data}: expected qa1 to qa20, train and test, in en-10k, got no {', '.join(missing)}; fetch the archive again")
    reader = _Reader()
    tasks: list[int] = []
    parts: list[int] = []
    for task, part in ((task, part) for task in TASKS for part in ("train", "test")):
        by_set = texts[task, part]
        stories = reader.read(by_set.get("en-10k", by_set.get("en", "")), f"{data}: qa{task} {part}")
        tasks += [task] * stories
        order = torch.randperm(stories, generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
        parts += [2] * stories if part == "test" else [int(place < stories // VALIDATION) for place in order]
    counts: dict[tuple[str, int], Counter[tuple[int, ...]]] = {(part, task): Counter() for part in PARTS for task in TASKS}
    for story, answer in reader.asked:
        counts[PARTS[parts[story]], tasks[story]][answer] += 1
    words = sorted(reader.numbers)
    place = torch.tensor([words.index(word) for word in reader.numbers] + [-1], dtype=torch.int16)  # the last is that of -1, nothing due
    starts = torch.tensor([*reader.starts, len(reader.shown)])
    shown, answers = (place[torch.tensor(flat, dtype=torch.int64)] for flat in (reader.shown, reader.answers))
    return Corpus(words, shown, answers, starts[:-1], starts.diff(), torch.tensor(tasks), torch.tensor(parts), counts)


class _Reader:
    """Words become numbers in the order of their first appearance; most lines occur hundreds of times and are looked up."""

    def __init__(self) -> None:
        self.numbers = {ANSWER: 0}
        self.shown, self.answers = array("h"), array("h")
        self.starts: list[int] = []
        self.asked: list[tuple[int, tuple[int, ...]]] = []  # story, answer
        self._known: dict[str, tuple[array[int], array[int], tuple[int, ...]]] = {}

    def read(self, text: str, where: str) -> int:
        """Lines `1 Mary moved.` and `3 Where is Mary? \\tbathroom\\t1`; number 1 begins a story. Returns how many stories there were."""
        before = len(self.starts)
        for line in text.splitlines():
            number, _, rest = line.partition(" ")
            if number == "1":
                self.starts.append(len(self.shown))
            if not number.isdecimal() or not rest or len(self.starts) == before:
                raise UsageError(f"{where}: expected numbered lines from 1, got {line[:60]!r}; fetch the archive again")
            if rest not in self._known:
                said, answer = (self._encode(part) for part in [*rest.lower().split("\t"), ""][:2])
                shown, due = [*said, *[self.numbers[ANSWER]] * len(answer)], [*[-1] * len(said), *answer]
                self._known[rest] = (array("h", shown), array("h", due), tuple(answer))
            shown_now, due_now, answered = self._known[rest]
            self.shown += shown_now
            self.answers += due_now
            if answered:
                self.asked.append((len(self.starts) - 1, answered))
        if len(self.starts) == before:
            raise UsageError(f"{where}: expected stories, got an empty file; fetch the archive again")
        return len(self.starts) - before

    def _encode(self, text: str) -> list[int]:
        return [self.numbers.setdefault(word, len(self.numbers)) for word in WORD.findall(text)]
