"""`torch.autocast` around kernels, which compute in the types of the tensors they are given."""

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast_is_on(device: torch.device) -> bool:
    """Whether torch would compute products of tensors of this device in a lower precision."""
    kind = device.type
    return kind != "meta" and torch.is_autocast_enabled(kind)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Leave autocast for a while; where it is not on, nothing happens."""
    return torch.autocast(device.type, enabled=False) if autocast_is_on(device) else nullcontext()
