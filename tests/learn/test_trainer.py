"""Training runs: curriculum and trainer in one process, and a process that is killed and resumed."""

import random
import time

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from mann_bench.data.errors import UsageError
from mann_bench.learn.curriculum import Curriculum
from mann_bench.learn.evaluation import evaluate
from mann_bench.learn.messages import Message, decode_message
from mann_bench.learn.processes import TrainingProcess
from mann_bench.learn.trainer import TEST, TRAINING, DivergedError, load_checkpoint, memory_rows
from mann_bench.models import NTM
from tests.support.training import after, make, small_case


def without_time(points):
    return [point.model_dump(exclude={"wall_s"}) for point in points]


def learned_start(**sizes):
    sizes = {name: size for name, size in sizes.items() if name not in ("reads", "index", "kernels")}
    return NTM(**sizes, learned_start=True)


class Plain(nn.Module):
    """A user's module whose `initial_state` takes neither `fill` nor `seed`."""

    def __init__(self, input_size, output_size):
        super().__init__()
        self.layer = nn.Linear(input_size, output_size)

    def initial_state(self, batch):
        return torch.zeros(batch)

    def forward(self, x, state):
        assert state.shape == x.shape[1:2]
        return self.layer(x), state


class TestCurriculum:
    """Levels and the goal for given losses."""

    def test_level_doubles_when_the_mean_of_the_last_losses_is_low(self):
        curriculum = Curriculum(small_case(curriculum="exponential", levels=(1, 12), patience=3, curriculum_threshold=0.1))
        levels = []
        for loss in [0.05, 0.05, 0.05, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]:
            curriculum.add_loss(loss)
            levels.append(curriculum.level)
        assert levels == [1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8, 12, 12]

    def test_goal_is_of_the_highest_level(self):
        curriculum = Curriculum(small_case(curriculum="exponential", levels=(1, 2), patience=2, curriculum_threshold=0.1, goal=0.2))
        reached = []
        for loss in [0.05, 0.05, 0.15, 0.3, 0.05]:
            curriculum.add_loss(loss)
            reached.append(curriculum.at_goal())
        assert reached == [False, False, False, False, True]

    def test_levels_are_drawn_from_the_lowest_to_h(self):
        generator = torch.Generator().manual_seed(0)
        curriculum = Curriculum(small_case(curriculum="exponential", levels=(2, 100), first_level=5))
        assert {curriculum.draw_level(generator) for _ in range(200)} == {2, 3, 4, 5}
        assert {Curriculum(small_case()).draw_level(generator) for _ in range(200)} == {1, 2, 3}


def test_case_says_what_is_missing():
    with pytest.raises(ValidationError, match="a limit of sequences or of seconds"):
        small_case(sequences=None)
    with pytest.raises(ValidationError, match="lowest <= highest"):
        small_case(levels=(3, 2))
    assert small_case().case_id == small_case().case_id != small_case(seed=1).case_id


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("sam", {}),
        ("sam", {"kernels": "torch", "optimizer": "rmsprop", "learning_rate": 1e-4}),
        ("sdnc", {"curriculum": "exponential", "levels": (1, 8), "curriculum_threshold": 0.999, "patience": 7}),
        ("dam", {}),
        ("lstm", {"optimizer": "rmsprop", "learning_rate": 1e-4}),
    ],
)
def test_resumed_run_is_bit_identical(model, changes, tmp_path):
    case = small_case(model=model, **changes)
    whole = make(case)
    assert whole.run(tmp_path / "whole.pt") == "budget"
    parts = make(case)
    for batches in (1, 36, 52):  # stopped inside a point, and beyond a point
        assert parts.run(tmp_path / "parts.pt", should_stop=after(batches)) is None
        before = parts.wall_s
        parts = make(case)
        parts.load(tmp_path / "parts.pt")
        assert parts.wall_s == before
    assert parts.run(tmp_path / "parts.pt") == "budget"
    assert parts.resumed == 3
    assert len(whole.curve) == 3  # 50, 100 and the last 20 batches
    assert without_time(whole.curve) == without_time(parts.curve)
    for (name, expected), got in zip(whole.model.state_dict().items(), parts.model.state_dict().values(), strict=True):
        assert torch.equal(expected, got), name


@pytest.mark.parametrize("limit", [70, 100])  # inside a point and at its end
@pytest.mark.parametrize("past_goal", [False, True])
def test_a_run_beyond_its_limit_is_bit_identical(limit, past_goal, tmp_path):
    goal = {"goal": 10.0, "patience": 5, "stop_at_goal": False} if past_goal else {}
    whole, part = make(small_case(**goal)), make(small_case(sequences=3 * limit, **goal))
    ending = "ok" if past_goal else "budget"
    assert whole.run(tmp_path / "whole.pt") == part.run(tmp_path / "part.pt") == ending
    assert part.curve[-1].sequences == 3 * limit
    longer = make(small_case(**goal))
    assert longer.case.run_id == part.case.run_id
    assert longer.case.case_id != part.case.case_id
    longer.load(tmp_path / "part.pt")
    assert longer.run(tmp_path / "part.pt") == ending
    assert without_time(longer.curve) == without_time(whole.curve)
    for (name, expected), got in zip(whole.model.state_dict().items(), longer.model.state_dict().values(), strict=True):
        assert torch.equal(expected, got), name


class TestMemoryBetweenBatches:
    """All batches share one state, unless parameters are part of it."""

    @pytest.mark.parametrize("model", ["sam", "sdnc", "dam"])
    def test_is_allocated_once_and_starts_every_sequence_as_the_first(self, model, tmp_path, monkeypatch):
        case = small_case(model=model, sequences=3 * 60)
        kept, renewed = make(case), make(case)
        initial_state = renewed.initial_state

        def forget():
            renewed.state = None
            return initial_state()

        monkeypatch.setattr(renewed, "initial_state", forget)
        made = []
        initial = kept.model.initial_state

        def counted(batch):
            made.append(batch)
            return initial(batch)

        monkeypatch.setattr(kept.model, "initial_state", counted)
        kept.run(tmp_path / "kept.pt")
        renewed.run(tmp_path / "renewed.pt")
        assert made == [3]
        assert without_time(kept.curve) == without_time(renewed.curve)
        assert not kept.state.memory.memory.any()

    def test_with_parameters_is_made_for_every_batch(self, tmp_path):
        trainer = make(small_case(model=f"{__name__}:learned_start", sequences=30))
        before = trainer.model.start.detach().clone()
        trainer.run(tmp_path / "checkpoint.pt")
        assert not torch.equal(before, trainer.model.start)


def test_a_model_whose_state_takes_no_fill_is_trained_and_tested_without_and_refused_with_it(tmp_path):
    case = small_case(model=f"{__name__}:Plain", sequences=30)
    trainer = make(case)
    assert trainer.run(tmp_path / "checkpoint.pt") == "budget"
    assert evaluate(trainer.model, case, trainer.task, 2, 60)
    with pytest.raises(UsageError, match=r"expected initial_state\(batch, fill, seed\).* got one without fill and seed; add"):
        make(small_case(model=f"{__name__}:Plain", fill="full"))


def test_goal_ends_training_unless_set_otherwise(tmp_path):
    case = small_case(goal=10.0, patience=20)
    trainer = make(case)
    assert trainer.run(tmp_path / "one.pt") == "ok"
    assert trainer.sequences == trainer.reached[0] == 60
    assert trainer.curve[-1].sequences == 60
    on = make(case.model_copy(update={"stop_at_goal": False}))
    assert on.run(tmp_path / "two.pt") == "ok"
    assert (on.sequences, on.reached[0]) == (360, 60)


def test_a_nan_loss_ends_training(tmp_path):
    trainer = make(small_case())
    with torch.no_grad():
        trainer.model.output.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="after 0 sequences"):
        trainer.run(tmp_path / "checkpoint.pt")


def finish(process):
    """The result of a training process."""
    while True:
        lines, death = process.receive()
        for message in map(decode_message, lines):
            assert isinstance(message, Message), message
            if message.result is not None:
                return message.result
        assert death is None, death


def test_killed_process_resumes_to_the_same_curve(tmp_path):
    case = small_case(sequences=3 * 500)
    command = {"case": case.model_dump(), "data": None, "every_s": 0.02, "evaluation_s": 60}
    control = TrainingProcess(1)
    broken = tmp_path / "broken.pt"
    dice = random.Random(0)
    try:
        control.send({**command, "checkpoint": str(tmp_path / "control.pt")})
        for kill in range(2):
            process = TrainingProcess(1)
            process.send({**command, "checkpoint": str(broken)})
            if kill < 1:
                steps_before = load_checkpoint(broken, case)["step"] if broken.exists() else 0
                while not broken.exists() or load_checkpoint(broken, case)["step"] == steps_before:
                    time.sleep(0.005)
                time.sleep(dice.uniform(0, 0.2))
                process.kill()
        resumed, whole = finish(process), finish(control)
    finally:
        control.kill()
        process.kill()
    assert (whole["status"], whole["resumed"], resumed["resumed"]) == ("budget", 0, 1)
    for point in (*whole["curve"], *resumed["curve"]):
        del point["wall_s"]
    assert len(whole["curve"]) == 10
    assert resumed["curve"] == whole["curve"]
    assert resumed["evaluations"] == whole["evaluations"]


@pytest.mark.parametrize(
    "options",
    [
        {"options": {"write_heads": 1}},
        {"options": {"erase": "gated"}},
        {"options": {"strength": False}},
        {"fill": "full", "index": "exact", "slots": 64},
        {"fill": "full", "index": "lsh", "slots": 64},
    ],
    ids=["one-writer", "gated", "no-strength", "full-exact", "full-lsh"],
)
def test_settings_of_an_ablation_reach_the_model(options, tmp_path):
    trainer, plain = make(small_case(sequences=3 * 20, **options)), make(small_case(sequences=3 * 20))
    for name, value in options.get("options", {}).items():
        assert getattr(trainer.model, name) == value != getattr(plain.model, name)
    for model in (trainer.model, plain.model):  # mix gates near 1: little goes to unused rows, where a gated erase differs
        nn.init.constant_(model.interface.bias[-model.write_heads :], 10.0)
    assert trainer.run(tmp_path / "one.pt") == "budget"
    assert plain.run(tmp_path / "plain.pt") == "budget"
    assert without_time(trainer.curve) != without_time(plain.curve)
    if "fill" in options:
        rows = trainer.initial_state().memory.rows
        assert rows.num_candidates == 64
        assert torch.equal(rows.memory, make(trainer.case).initial_state().memory.rows.memory)  # backward has rolled it back
        assert memory_rows(trainer.case, TEST) != memory_rows(trainer.case, TRAINING)
