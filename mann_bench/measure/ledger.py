"""Whose bytes they are: every block that the allocator gave out, under the cause that holds it.

parameters, gradients; of the state: memory (rows and their norms), link (temporal links, precedence), ring_and_usage, index (search
structures), state (the rest); inputs (with targets); tape (what forward keeps for backward, and what a state keeps of its last pass to
make it again), workspace (gone when the pass is over).
`unattributed` is what is left of the allocator's own total: blocks that nothing known holds, such as a model's hidden table or a leak.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from mann_bench.measure.trace import BACKWARD, BEFORE, FORWARD, NEVER, Block, Trace
from mann_bench.measure.workload import Workload

CAUSES = (
    "parameters", "gradients", "memory", "link", "ring_and_usage", "index", "state", "inputs", "tape", "workspace", "unattributed",
)  # fmt: skip
STATE_CAUSES = ("memory", "link", "ring_and_usage", "index", "state")
Storages = dict[int, int]  # address to bytes


def owners(workload: Workload) -> dict[str, Storages]:
    """The storages held between passes, by cause; one that several tensors share counts once, under the first."""
    module = getattr(workload, "model", None)
    buffers = module.buffers() if isinstance(module, torch.nn.Module) else []
    found: dict[str, Storages] = {cause: {} for cause in CAUSES}
    causes = getattr(module, "ledger_causes", {})  # of a table that is a parameter: memory
    tensors = [(causes.get(name, "parameters"), tensor) for name, tensor in workload.parameters().items()]
    tensors += [("parameters", tensor) for tensor in buffers]
    tensors += [("inputs", tensor) for tensor in workload.input_tensors()]
    tensors += state_tensors(workload.state, workload.ledger_causes)
    seen: set[int] = set()
    for cause, tensor in tensors:
        for address, size_bytes in storages([tensor]).items():
            if address not in seen:
                found[cause][address] = size_bytes
                seen.add(address)
    return found


def storages(tensors: Iterable[Tensor]) -> Storages:
    """Address and bytes of the distinct storages behind tensors; empty ones have none."""
    parts = [part for tensor in tensors for part in strided_parts(tensor)]
    behind = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in parts}
    return {address: size_bytes for address, size_bytes in behind.items() if size_bytes}


def strided_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensors that hold a tensor's numbers: itself, or of a sparse gradient its indices and values."""
    return (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)


def state_tensors(state: object, causes: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor reachable from a state, with its cause.

    The walk visits mappings, sequences, dataclasses and objects with `ledger_causes`, which maps attribute names to causes. An attribute
    or entry without a declared cause has the cause of the object that holds it; the state itself has cause "state". The walk is breadth
    first: a tensor that is reached in two ways comes first under the cause of the shorter way.

    Args:
        causes: declared causes of the state's own entries, if it is a mapping.
    """
    waiting: deque[tuple[str, Mapping[str, str], object]] = deque([("state", causes, state)])
    seen: set[int] = set()
    while waiting:
        cause, declared, value = waiting.popleft()
        if isinstance(value, Tensor):
            yield cause, value
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            parts = list(value.items())
        elif isinstance(value, (list, tuple)):
            parts = list(enumerate(value))
        elif dataclasses.is_dataclass(value) or hasattr(value, "ledger_causes"):
            parts = list(vars(value).items()) if hasattr(value, "__dict__") else []
            declared = getattr(value, "ledger_causes", {})
        else:
            continue
        waiting.extend((declared.get(name, cause), {}, part) for name, part in parts)


def gradients(workload: Workload) -> Storages:
    """The storages of all gradients there are now."""
    return storages(tensor.grad for tensor in workload.parameters().values() if tensor.grad is not None)


def attribute(
    trace: Trace, before: dict[str, Storages], after: dict[str, Storages], output: Storages, *, training: bool
) -> dict[str, list[Block]]:
    """All blocks of a pass by cause: `before` and `after`, who held what when it began and ended; `output`, the storage of y."""
    known = {address: cause for cause, held in before.items() for address in held}
    at_end = {address: cause for cause, held in after.items() for address in held}
    forward_end, end = trace.after(FORWARD), trace.after(BACKWARD)
    found: dict[str, list[Block]] = {cause: [] for cause in CAUSES}
    for block in trace.blocks:
        cause = "unattributed"
        if block.born_ns == BEFORE:
            cause = known[block.address]
        elif block.lives_at(end) and block.address in at_end:
            cause = at_end[block.address]
        elif training and block.lives_at(forward_end) and not (block.address in output and block.lives_at(end)):
            cause = "tape"
        elif block.died_ns != NEVER:
            cause = "workspace"
        found[cause].append(block)
    return found
