"""The gates of a gated delta rule: how much of the state is kept, and how strongly it is corrected."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

DECAYS = (1.0, 16.0)  # A starts uniform between these
STEPS = (0.001, 0.1)  # softplus(step_bias) starts between these, its logarithm uniform


class Gates(nn.Module):
    """`g = -A softplus(a + step_bias)` and `beta = sigmoid(b)`, one of each a head."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.empty(heads).uniform_(*DECAYS).log())  # log A
        self.step_bias = nn.Parameter(inverse_softplus(torch.empty(heads).uniform_(*map(math.log, STEPS)).exp()))

    def forward(self, decay: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        """a and b [.., R] -> g <= 0, the logarithm of what is kept, and beta [.., R]."""
        return -self.log_decay.exp() * functional.softplus(decay + self.step_bias), torch.sigmoid(strength)


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is `value` > 0."""
    return value + torch.log(-torch.expm1(-value))
