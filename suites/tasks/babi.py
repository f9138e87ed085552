"""bAbI: small stories with questions in 20 tasks, learned jointly, one word a step.

The stories are the user's own copy of Weston et al. 2015, version 1.2: tasks_1-20_v1-2.tar.gz (or .xz), or the files unpacked from it.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mann_bench.data.errors import UsageError
from mann_bench.suites.tasks import files
from mann_bench.suites.tasks.task import Batch, Task, uniform, zeros

WHAT = "bAbI (tasks_1-20_v1-2.tar.gz, from which en-10k and en are read)"
ARCHIVES = r"tasks_1-20.*\.(tar\.\w+|tgz|zip)"
FILE = re.compile(r"(^|/)(?P<set>en-10k|en)/qa(?P<task>\d+)_[\w-]+_(?P<part>train|test)\.txt$")
WORD = re.compile(r"[a-z]+|[.?]")  # leaves out numbers
ANSWER = "-"  # input of a step where a word of an answer is due
TASKS = range(1, 21)
VALIDATION = 10  # 1 / the share of training stories that are for validation
SPLIT_SEED = 0
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Babi(Task):
    """All 20 tasks jointly, encoded as in Graves et al. 2016 (Methods, bAbI).

    A step shows one word in lower case, one-hot; numbers are left out. The archive as distributed has 159 words: 156, '.', '?' and '-'.
    After each '?' come as many '-' as the answer has words. Only there is a word due; a question is right only if all words of its answer
    are. The group of an answer is its task, 1 to 20.

    A sequence is a whole story with its questions. Its task is drawn uniformly, then one of the task's stories. Shorter stories of a
    batch are padded with zeros. There is one level: the length of a story depends on its task (qa4 24 words, qa3 up to 1,393), so a limit
    on the length would leave out tasks, and the papers train without a curriculum.

    A fixed seed takes 10% of the training stories of each task for validation; `held_out` is the test stories. Stories are those of
    en-10k; where a task is missing there (qa3 train in some copies), its 1,000 questions of en are used.
    """

    name = "babi"
    answer = "class"
    level_means = "set of 20 tasks"
    levels = (1, 1)
    last_level = 1

    def __init__(self, data: Path, *, part: Part = "train") -> None:
        """Load one part of the stories.

        Args:
            data: folder or archive.

        Raises:
            UsageError: data missing, damaged or without one of the tasks.
        """
        self.data, self.part, self.corpus = data, part, load(data)
        self.fingerprint = files.fingerprint(data, ARCHIVES, FILE, WHAT)
        of_part = self.corpus.parts == PARTS.index(part)
        self.stories = [((self.corpus.tasks == task) & of_part).nonzero()[:, 0] for task in TASKS]  # story numbers of each task
        self.input_size = self.output_size = len(self.corpus.words)

    def held_out(self) -> "Babi":
        """The test stories."""
        return Babi(self.data, part="test")

    def validation(self) -> "Babi":
        """The validation stories."""
        return Babi(self.data, part="validation")

    def steps(self, level: int) -> int:
        """Words of the longest story."""
        return int(self.corpus.lengths[torch.cat(self.stories)].max())

    def chance(self, level: int) -> float:
        """Share of wrong answers when always giving the task's most frequent answer, averaged over the tasks."""
        return sum(map(self.chance_of, TASKS)) / len(TASKS)

    def chance_of(self, group: int) -> float:
        """Chance in one task."""
        counts = self.corpus.counts[self.part, group]
        return 1 - max(counts.values()) / counts.total()

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """Draw B stories: inputs [T, B, words], targets, mask and group [T, B]; T is the length of the longest."""
        self.check_level(level)
        tasks = torch.randint(len(TASKS), (batch,), generator=generator, device="cpu").tolist()
        fractions = uniform(batch, generator=generator).tolist()
        stories = [self.stories[task][int(fraction * len(self.stories[task]))] for task, fraction in zip(tasks, fractions, strict=True)]
        return self._batch(torch.stack(stories))

    def every(self, batch: int) -> Iterator[Batch]:
        """Each story once, sorted by length, so that padding is short."""
        stories = torch.cat(self.stories)
        for part in stories[self.corpus.lengths[stories].argsort(stable=True)].split(batch):
            yield self._batch(part)

    def due(self, batch: Batch) -> Tensor:
        """1 at the last word of each answer [T, B]."""
        return batch.mask * (1 - functional.pad(batch.mask[1:], (0, 0, 0, 1)))

    def wrong(self, y: Tensor, batch: Batch) -> Tensor:
        """1 at the last word of an answer with any wrong word [T, B]."""
        errors = super().wrong(y, batch)
        any_wrong = errors.new_zeros(errors.shape[1])  # [B], among the words of the current answer
        for t, mask in enumerate(batch.mask):
            any_wrong = (any_wrong + errors[t]).clamp(max=1) * mask
            errors[t] = any_wrong
        return errors * self.due(batch)

    def _batch(self, stories: Tensor) -> Batch:
        corpus, lengths = self.corpus, self.corpus.lengths[stories]
        t = torch.arange(int(lengths.max()), device="cpu")[:, None]
        inside = t < lengths  # [T, B]
        position = torch.where(inside, corpus.starts[stories] + t, 0)
        shown, answers = corpus.shown[position], torch.where(inside, corpus.answers[position], -1)
        inputs = zeros(*shown.shape, self.input_size).scatter_(2, shown.long()[..., None], inside.float()[..., None])
        group = corpus.tasks[stories].expand(inside.shape)
        return Batch(inputs, answers.clamp(min=0).long(), (answers >= 0).float(), group, lengths)


@dataclass(frozen=True)
class Corpus:
    """All stories, one after another. Words are numbers: places in `words`."""

    words: list[str]
    shown: Tensor  # int16 [steps of all stories], the word shown
    answers: Tensor  # int16 [steps of all stories], the word due, or -1
    starts: Tensor  # int64 [stories], as the three below; first step of a story
    lengths: Tensor
    tasks: Tensor
    parts: Tensor  # places in `PARTS`
    counts: dict[tuple[str, int], Counter[tuple[int, ...]]]  # by part and task: how often each answer is due


@lru_cache(maxsize=2)
def load(data: Path) -> Corpus:
    """Read the files of all tasks; raises as `Babi`."""
    texts: dict[tuple[int, str], dict[str, str]] = {}
    for path, content in files.members(data, ARCHIVES, FILE, WHAT):
        match = FILE.search(path)
        assert match is not None  # `members` yields only paths that match
        texts.setdefault((int(match["task"]), match["part"]), {}).setdefault(match["set"], _text(content, f"{data}: {path}"))
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
        order = torch.randperm(stories, generator=torch.Generator().manual_seed(SPLIT_SEED), device="cpu").tolist()
        parts += [PARTS.index("test")] * stories if part == "test" else [int(rank < stories // VALIDATION) for rank in order]
    counts: dict[tuple[str, int], Counter[tuple[int, ...]]] = {(part, task): Counter() for part in PARTS for task in TASKS}
    for story, answer in reader.questions:
        counts[PARTS[parts[story]], tasks[story]][answer] += 1
    words = sorted(reader.numbers)
    place = whole([words.index(word) for word in reader.numbers] + [-1]).short()  # index -1 (nothing due) stays -1
    starts = whole([*reader.starts, len(reader.shown)])
    shown, answers = (place[whole(flat)] for flat in (reader.shown, reader.answers))
    return Corpus(words, shown, answers, starts[:-1], starts.diff(), whole(tasks), whole(parts), counts)


def whole(numbers: Sequence[int]) -> Tensor:
    """Whole numbers as int64 on the CPU."""
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: expected a text in UTF-8, got other bytes ({error}); fetch the archive again") from error


class _Reader:
    """Encodes stories. Words get numbers in the order of their first appearance. Most lines occur hundreds of times: encoded once."""

    def __init__(self) -> None:
        self.numbers = {ANSWER: 0}
        self.shown, self.answers = array("h"), array("h")
        self.starts: list[int] = []
        self.questions: list[tuple[int, tuple[int, ...]]] = []  # story and answer
        self._lines: dict[str, tuple[array[int], array[int], tuple[int, ...]]] = {}

    def read(self, text: str, where: str) -> int:
        """Read the lines of a file, as `1 Mary moved.` and `3 Where is Mary? \\tbathroom\\t1`. Number 1 starts a story.

        Args:
            where: the file, for error messages.

        Returns:
            The number of stories.
        """
        before = len(self.starts)
        for line in text.splitlines():
            number, _, rest = line.partition(" ")
            if number == "1":
                self.starts.append(len(self.shown))
            if not number.isdecimal() or not rest or len(self.starts) == before:
                raise UsageError(f"{where}: expected numbered lines from 1, got {line[:60]!r}; fetch the archive again")
            if rest not in self._lines:
                sentence, answer = (self._encode(part) for part in [*rest.lower().split("\t"), ""][:2])
                shown, due = [*sentence, *[self.numbers[ANSWER]] * len(answer)], [*[-1] * len(sentence), *answer]
                self._lines[rest] = (array("h", shown), array("h", due), tuple(answer))
            line_shown, line_due, line_answer = self._lines[rest]
            self.shown += line_shown
            self.answers += line_due
            if line_answer:
                self.questions.append((len(self.starts) - 1, line_answer))
        if len(self.starts) == before:
            raise UsageError(f"{where}: expected stories, got an empty file; fetch the archive again")
        return len(self.starts) - before

    def _encode(self, text: str) -> list[int]:
        return [self.numbers.setdefault(word, len(self.numbers)) for word in WORD.findall(text)]
