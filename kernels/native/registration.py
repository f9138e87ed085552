"""How a function becomes a torch operator of the namespace `mann_bench`.

Made from the parts of `torch.library.custom_op` (schema, kernel, fake kernel, autograd formula) rather than by it: its Python layers cost
10 to 16 us a call, 50 with many tensors, these 3 to 8, and many of these operations take less than that.
"""

from collections.abc import Callable
from typing import Any

import torch

_LIBRARY = torch.library.Library("mann_bench", "FRAGMENT")


def operator(function: Callable[..., Any], fake: Callable[..., Any], changes: tuple[str, ...] = ()) -> Any:
    """Register `function` as `torch.ops.mann_bench.NAME`, its schema from its annotations; `changes` names arguments changed in place."""
    name = function.__name__.strip("_")
    schema = torch.library.infer_schema(function, mutates_args=changes, op_name=name)
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"mann_bench::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.mann_bench, name).default
