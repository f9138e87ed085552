"""bAbI: stories word by word, answers where they are due, separate parts; on made-up archives, and on the real one if present."""

import io
import tarfile

import pytest
import torch

from mann_bench.data.errors import UsageError
from mann_bench.suites.tasks import find_task
from mann_bench.suites.tasks.babi import PARTS, TASKS, Babi
from mann_bench.suites.tasks.task import Batch
from tests.support.real_data import REAL_DATA, needs_real_data

PLACES = ("Kitchen", "garden", "office")
WORDS = ["mary", "went", "to", "the", "kitchen", "garden", "office", "john", "is", "in", "park", "where", "no", ".", "?", "-"]


def story(task, n):
    """Two questions; in task 8 the answers have two words, and task 2 has one sentence more."""
    place = PLACES[n % 3]
    lines = [f"Mary went to the {place}.", *(["John is in the park."] if task == 2 else [])]
    answers = [f"{place},no" if task == 8 else place] * 2
    lines += [f"Where is Mary? \t{answer}\t1" for answer in answers]
    return "".join(f"{number} {line}\n" for number, line in enumerate(lines, 1))


def write_archive(path, change=None):
    contents = {f"en-10k/qa{t}_made-up_{part}.txt": story_count(t, part) for t in TASKS for part in ("train", "test")}
    contents["en/qa3_made-up_train.txt"] = story_count(3, "train") * 2
    contents["README.txt"] = "not a task"
    if change:
        change(contents)
    with tarfile.open(path, "w:" + path.suffix[1:]) as archive:
        for name, text in contents.items():
            info = tarfile.TarInfo(f"tasks_1-20_v1-2/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode("latin-1")))
    return path


def story_count(task, part):
    return "".join(story(task, n) for n in range(30 if part == "train" else 6))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("babi") / "tasks_1-20_v1-2.tar.gz")


def words_of(task, batch, b):
    """(word shown, word due) of each step of one story."""
    words = task.corpus.words
    inside = batch.inputs[:, b].sum(-1) == 1
    shown = [words[int(i)] for i in batch.inputs[inside, b].argmax(-1)]
    return [(s, words[int(a)] if m else "") for s, a, m in zip(shown, batch.targets[inside, b], batch.mask[inside, b], strict=True)]


def test_a_story_word_by_word(data):
    task = find_task("babi", data)
    assert isinstance(task, Babi)
    assert task.corpus.words == sorted(WORDS)
    assert task.input_size == task.output_size == 16
    for batch in task.every(7):
        assert batch.group is not None
        for b in range(batch.inputs.shape[1]):
            number = int(batch.group[0, b])
            words = words_of(task, batch, b)
            assert [shown for shown, _ in words[:5]] in [["mary", "went", "to", "the", place.lower()] for place in PLACES]
            place = words[4][0]
            answer = [("-", place), ("-", "no")] if number == 8 else [("-", place)]
            question = [(word, "") for word in ("where", "is", "mary", "?")]
            more = [(word, "") for word in ("john", "is", "in", "the", "park", ".")] if number == 2 else []
            assert words[5:] == [(".", ""), *more, *question, *answer, *question, *answer]


def test_padding_is_silent_and_batches_are_seeded(data):
    task = Babi(data)
    batch = task.sample(1, 200, torch.Generator().manual_seed(3))
    assert batch.group is not None
    assert set(batch.group[0].tolist()) == set(TASKS)
    assert torch.equal(batch.group[0].expand_as(batch.group), batch.group)
    short = [b for b in range(200) if batch.group[0, b] not in (2, 8)]
    assert len(batch.inputs) == task.steps(1) == 22
    assert not batch.inputs[16:, short].any()
    assert not batch.mask[16:, short].any()
    assert batch.lengths is not None
    assert torch.equal(batch.lengths, (batch.inputs.sum(2) > 0).sum(0))
    again, other = (task.sample(1, 200, torch.Generator().manual_seed(seed)) for seed in (3, 4))
    assert torch.equal(batch.inputs, again.inputs)
    assert other.group is not None
    assert not torch.equal(batch.group, other.group)


def test_parts(data):
    counts = {part: [len(s) for s in Babi(data, part=part).stories] for part in PARTS}
    assert counts == {"train": [27] * 20, "validation": [3] * 20, "test": [6] * 20}
    everything = [int(story) for part in counts for stories in Babi(data, part=part).stories for story in stories]
    assert len(everything) == len(set(everything)) == 36 * 20
    assert torch.equal(torch.cat(Babi(data).held_out().stories), torch.cat(Babi(data, part="test").stories))
    assert torch.equal(torch.cat(Babi(data).validation().stories), torch.cat(Babi(data, part="validation").stories))
    assert sum(batch.inputs.shape[1] for batch in Babi(data).held_out().every(50)) == 6 * 20


def test_a_question_is_wrong_if_any_of_its_words_is(data):
    task = Babi(data)
    #                      an answer of two words      | of one  | end
    mask = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1.0])[:, None].repeat(1, 4)
    targets = torch.tensor([0, 3, 5, 0, 7, 0, 0, 2])[:, None].repeat(1, 4)
    batch = Batch(torch.zeros(8, 4, 16), targets, mask)
    outputs = targets.clone()
    outputs[1, 1] = 0  # first word
    outputs[2, 2] = outputs[7, 2] = 0  # last word, and the last question
    outputs[[0, 3, 5], 3] = 9  # where nothing is due
    y = torch.nn.functional.one_hot(outputs, 16).float()
    assert task.due(batch)[:, 0].tolist() == [0, 0, 1, 0, 1, 0, 0, 1]
    assert task.wrong(y, batch).T.tolist() == [[0] * 8, [0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 1], [0] * 8]
    assert float(task.loss(100 * y, batch)) == pytest.approx(3 * 100 / 4 / 4 / torch.log(torch.tensor(2.0)))  # 3 of 16 words


def test_chance_is_the_commonest_answer(data):
    task = Babi(data).held_out()
    assert task.chance_of(1) == pytest.approx(2 / 3)
    assert task.chance(1) == pytest.approx(2 / 3)


def test_missing_task_three_comes_from_the_smaller_set(tmp_path):
    path = write_archive(tmp_path / "tasks_1-20_v1-2.tar.xz", lambda contents: contents.pop("en-10k/qa3_made-up_train.txt"))
    assert [len(stories) for stories in Babi(path).stories[:4]] == [27, 27, 54, 27]


def test_useless_data_is_refused(tmp_path):
    def spoil(name, change):
        return write_archive(tmp_path / name, change)

    with pytest.raises(UsageError, match="expected qa1 to qa20, train and test, in en-10k, got no qa7 test"):
        Babi(spoil("tasks_1-20_a.tar.gz", lambda contents: contents.pop("en-10k/qa7_made-up_test.txt")))
    with pytest.raises(UsageError, match="qa7 test: expected numbered lines from 1, got '<html>'"):
        Babi(spoil("tasks_1-20_b.tar.gz", lambda contents: contents.update({"en-10k/qa7_made-up_test.txt": "<html>\n"})))
    with pytest.raises(UsageError, match="qa7 test: expected stories, got an empty file"):
        Babi(spoil("tasks_1-20_c.tar.gz", lambda contents: contents.update({"en-10k/qa7_made-up_test.txt": ""})))
    with pytest.raises(UsageError, match=r"qa7_made-up_test\.txt: expected a text in UTF-8"):
        Babi(spoil("tasks_1-20_d.tar.gz", lambda contents: contents.update({"en-10k/qa7_made-up_test.txt": "caf\xe9"})))
    with pytest.raises(UsageError, match="--data"):
        find_task("babi")


@needs_real_data
def test_real_stories():
    task = Babi(REAL_DATA)
    assert len(task.corpus.words) == 159  # Graves et al. 2016
    held_out = task.held_out()
    questions = torch.zeros(21)
    for batch in held_out.every(64):
        assert batch.group is not None
        questions.index_add_(0, batch.group.flatten(), held_out.due(batch).flatten())
    assert questions.tolist() == [0] + [1000] * 20
    two_words = sum(len(answer) > 1 for answer in held_out.corpus.counts["test", 19])
    assert two_words == len(held_out.corpus.counts["test", 19])
