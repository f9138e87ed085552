"""Optimizers of training runs against torch's classes: bit for bit, from the start and from a state that torch's class has stored."""

import io
import subprocess
import sys

import pytest
import torch
from torch import nn

from mann_bench.learn.optimizers import make_optimizer
from mann_bench.learn.record import LearningCase


def make_case(optimizer, momentum=0.9):
    return LearningCase(task="copy", model="lstm", levels=(1, 2), sequences=8, optimizer=optimizer, momentum=momentum, learning_rate=3e-3)


def torchs(case, parameters):
    if case.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=case.learning_rate, betas=(case.momentum, 0.999), fused=True)
    return torch.optim.RMSprop(parameters, lr=case.learning_rate, alpha=0.95, eps=1e-4, momentum=case.momentum, centered=True)


def make_parameters(dtype):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((7, 5), (1,), (3, 1, 2), (0, 4), ())]


def train(optimizer, parameters, steps):
    """Steps on gradients that depend on the step; the second parameter gets one only every other step, the last never."""
    for step in steps:
        chance = torch.Generator().manual_seed(step)
        for place, parameter in enumerate(parameters[:-1]):
            grad = torch.randn(parameter.shape, dtype=parameter.dtype, generator=chance)
            parameter.grad = None if place == 1 and step % 2 == 0 else grad
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


CASES = [make_case("adam"), make_case("adam", 0.5), make_case("rmsprop"), make_case("rmsprop", 0.0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.optimizer}-{case.momentum}")
def test_the_same_bits_as_torchs_class(case, dtype):
    ours, theirs = make_parameters(dtype), make_parameters(dtype)
    got, expected = train(make_optimizer(case, ours), ours, range(20)), train(torchs(case, theirs), theirs, range(20))
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
    assert not torch.equal(got[0], make_parameters(dtype)[0])


@pytest.mark.parametrize("stores", ["ours", "torch's"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.optimizer}-{case.momentum}")
def test_goes_on_from_a_stored_state(case, stores):
    """Checkpoints of earlier versions hold the state of torch's class."""
    first = make_parameters(torch.float32)
    optimizer = make_optimizer(case, first) if stores == "ours" else torchs(case, first)
    train(optimizer, first, range(7))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    stored = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    second = [nn.Parameter(parameter.detach().clone()) for parameter in first]
    later = make_optimizer(case, second)
    later.load_state_dict(stored)
    whole = make_parameters(torch.float32)
    expected = train(torchs(case, whole), whole, range(15))
    assert all(torch.equal(one, other) for one, other in zip(train(later, second, range(7, 15)), expected, strict=True))


def test_a_state_of_others_is_refused():
    parameters = make_parameters(torch.float32)
    adam, rmsprop = make_optimizer(make_case("adam"), parameters), make_optimizer(make_case("rmsprop"), parameters)
    train(adam, parameters, range(2))
    with pytest.raises(ValueError, match="expected step, square_avg, momentum_buffer, grad_avg of each parameter, got step, exp_avg"):
        rmsprop.load_state_dict(adam.state_dict())
    with pytest.raises(ValueError, match="of number 0"):
        make_optimizer(make_case("adam"), []).load_state_dict(adam.state_dict())
    with pytest.raises(ValueError, match=r"shape of parameter 0, \(5, 7\), got others"):
        make_optimizer(make_case("adam"), [nn.Parameter(torch.zeros(5, 7))]).load_state_dict(adam.state_dict())


def test_training_does_not_import_a_compiler():
    """That would take several seconds of a processor in each training process."""
    program = """
import sys
from mann_bench.learn.record import LearningCase
from mann_bench.learn.trainer import Trainer
from mann_bench.suites.tasks.find import find_task
for model in ("lstm", "sam"):
    for optimizer in ("adam", "rmsprop"):
        case = LearningCase(task="copy", model=model, levels=(1, 2), sequences=8, optimizer=optimizer, hidden=8, slots=8)
        Trainer(case, find_task("copy")).train_batch()
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
