"""Random configurations of SAM and SDNC, native against torch: outputs, states, all gradients; rollback and replay exact to the bit.

python -m tests.endurance.configurations COUNT [--seed N] [--sanitizers] [--out FILE]    FILE: counts and faults as JSON, as they come
python -m tests.endurance.configurations --only SEED [--sanitizers]                      one configuration, by the seed that a fault names

What is compared. Rows read, order of use, candidates and links must be the same. Numbers must be finite in the same places, and there
differ by at most `TOLERANCE` of the largest number of their tensor, a gradient by as much of the largest of all gradients where that is
more. bfloat16 rows have a tolerance of their own: both kernels round at every write, not in the same places.

What cannot be compared is counted apart. Where native and torch differ by more, the torch kernels run again from parameters and inputs that
are changed by a few units of their last place. Where they then differ from themselves in what is chosen, in where numbers are finite, or
by a share of the difference found, the configuration is *ill-conditioned*: the order of a sum decides what comes out. With numbers near the
largest of their type a sum overflows or not by its order: a difference there is counted as *overflow*. Rollback and replay are checked in
every configuration. Not compared: weights of no row (-1); of a batch element with numbers that are not finite, the gradients of its input
and states; the bits of a NaN.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mann_bench.data.files import write_atomically
from mann_bench.kernels.native import build
from tests.endurance.draws import Configuration, draw
from tests.support.emulated import Emulator, SanitizerError
from tests.support.sparse_states import choices, in_place, states

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.05}
LAST_PLACES = {torch.float64: 1e-15, torch.float32: 5e-7, torch.bfloat16: 4e-3}  # relative changes that show what is ill-conditioned
TRIES = 6  # such changes
MARGIN = 30.0  # the kernels may differ by so much more than torch differs from itself after such a change
Where = Callable[[Configuration], AbstractContextManager[Any]]
STATES = ("hidden", "cell", "reads", "weights")  # those with a gradient


@dataclass
class Outcome:
    """What a configuration came to on one kind of kernels."""

    chosen: list[Any] = field(default_factory=list)
    numbers: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    inexact: list[str] = field(default_factory=list)  # what a rollback or a replay did not restore to the bit


def outcome(configuration: Configuration, kernels: str, change: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Outcome:
    """Run all chunks, each forward, backward, and forward again by replay; at the end a pass is rolled back without a backward."""
    model, inputs = configuration.model(kernels), configuration.inputs()
    inputs = [change(x) for x in inputs]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(change(parameter))
        state = configuration.start(model, change)
    found, generator = Outcome(), torch.Generator().manual_seed(configuration.seed + 1)
    parameters = dict(model.named_parameters())
    for number, x in enumerate(inputs):
        start = before_pass(state)
        present = state.memory.index >= 0
        leaves = {"x": x.clone().requires_grad_()}
        for name in STATES:
            owner = state.memory if name == "weights" else state.controller
            leaves[name] = getattr(owner, name).detach().clone().requires_grad_()
            setattr(owner, name, leaves[name])
        y, after = model(leaves["x"], state)
        held, end = states(after), in_place(after)
        outputs = {"y": y, **{name: held[name] for name in STATES}}
        held["weights"] = torch.where(after.memory.index >= 0, held["weights"], 0)  # of no row
        sound = y.isfinite().all(-1).all(0)  # [B] elements whose numbers are finite
        for name in ("hidden", "cell", "reads", "weights", "memory", "norms"):
            sound &= held[name].isfinite().flatten(1).all(1)
        found.numbers |= {f"{name} {number}": tensor.detach().clone() for name, tensor in {**held, "y": y}.items()}
        found.chosen += choices(after)
        loss = sum((value * torch.randn(value.shape, generator=generator, dtype=value.dtype)).sum() for value in outputs.values())
        wanted = {**leaves, **parameters}
        gradients = dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True), strict=True))
        gradients["weights"] = torch.where(present, gradients["weights"], 0)  # of a row that is not there a weight has no gradient
        for name in ("x", *STATES):
            gradients[name] = gradients[name][:, sound] if name == "x" else gradients[name][sound]
        found.gradients |= {f"gradient of {name} {number}": gradient for name, gradient in gradients.items()}
        found.inexact += differences(f"rollback of pass {number}", start, in_place(state))
        state = after.detach()
        found.inexact += differences(f"replay of pass {number}", end, in_place(state))
    end = before_pass(state)
    model(inputs[0], state)[1].rollback()
    found.inexact += differences("rollback without a backward", end, in_place(state))
    return found


def before_pass(state: Any) -> dict[str, Tensor]:
    """What a rollback restores. Positions of a long queue start anew when a pass begins; their order, which counts, is the same."""
    order = state.memory.rows.ring.order()
    state.memory.rows.ring.begin(log=False)
    assert torch.equal(order, state.memory.rows.ring.order())
    return in_place(state)


def differences(what: str, expected: dict[str, Tensor], got: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not the same bits."""
    return [f"{what}: {name}" for name, tensor in expected.items() if not torch.equal(raw(tensor), raw(got[name]))]


def raw(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, the same for every NaN."""
    return torch.where(tensor.isnan(), torch.nan, tensor).contiguous().view(-1).view(torch.uint8)


def distances(expected: Outcome, got: Outcome) -> dict[str, float]:
    """Of each tensor the largest difference as a share of its scale; infinite where numbers are finite in different places."""
    found = {}
    for group in ("numbers", "gradients"):
        tensors, others = getattr(expected, group), getattr(got, group)
        largest = max(map(magnitude, tensors.values())) if group == "gradients" else 0.0
        for name, tensor in tensors.items():
            other, finite = others[name], tensor.isfinite()
            if not torch.equal(finite, other.isfinite()):
                found[name] = float("inf")
                continue
            difference = (tensor.double() / 4 - other.double() / 4)[finite].abs()
            scale = max(magnitude(tensor), largest, torch.finfo(tensor.dtype).tiny) / 4
            found[name] = float(difference.max()) / scale if difference.numel() else 0.0
    return found


def magnitude(tensor: Tensor) -> float:
    """The largest finite number of a tensor."""
    finite = tensor.detach().double()[tensor.isfinite()].abs()
    return float(finite.max()) if finite.numel() else 0.0


def judge(configuration: Configuration, native: Outcome, reference: Outcome) -> tuple[str, list[str]]:
    """How native compares with torch: "alike", "overflow", "ill-conditioned" or "different", and why."""
    precision = configuration.storage or configuration.dtype
    same, apart = native.chosen == reference.chosen, distances(reference, native)
    beyond = {name: distance for name, distance in apart.items() if not distance <= TOLERANCE[precision]}
    if same and not beyond:
        return "alike", []
    if configuration.hostile == "huge" or (configuration.hostile, configuration.place) == ("inf", "parameter"):
        return "overflow", []
    if not same and (configuration.options["word_size"] == 1 or rounding_decides(configuration, native, reference)):
        return "ill-conditioned", []
    why = ["the rows chosen differ"] * (not same) + [f"{name}: {distance:.2g}" for name, distance in beyond.items()]
    for number in range(TRIES):
        changed = outcome(configuration, "torch", changes(LAST_PLACES[precision] * 2**number, configuration.seed + number))
        if changed.chosen != reference.chosen:
            return "ill-conditioned", why
        if same:
            own = distances(reference, changed)
            beyond = {name: distance for name, distance in beyond.items() if not distance <= MARGIN * own[name]}
            if not beyond:
                return "ill-conditioned", why
    return "different", why


def rounding_decides(configuration: Configuration, native: Outcome, reference: Outcome) -> bool:
    """Whether native or torch chooses other rows where those stored are not rounded."""
    exact = replace(configuration, storage=None)
    return configuration.storage is not None and (
        outcome(exact, "torch").chosen != reference.chosen or outcome(exact, "native").chosen != native.chosen
    )


def changes(share: float, seed: int) -> Callable[[Tensor], Tensor]:
    """A function that changes numbers at random: by up to a share of themselves, those below the smallest normal one by all."""
    generator = torch.Generator().manual_seed(seed)

    def change(tensor: Tensor) -> Tensor:
        factors = 2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1
        small = tensor.abs() < torch.finfo(torch.float64 if tensor.dtype == torch.float64 else torch.float32).tiny
        return tensor.detach() * (1 + torch.where(small, factors.sign(), share * factors)).to(tensor.dtype)

    return change


def check(configuration: Configuration, where: Where = lambda configuration: nullcontext()) -> tuple[str, list[str]]:
    """Run a configuration, native kernels in a context: the verdict of `judge`, and all that is wrong."""
    with where(configuration):
        native = outcome(configuration, "native")
    reference = outcome(configuration, "torch")
    verdict, why = judge(configuration, native, reference)
    inexact = [f"{kernels}: {text}" for kernels, found in (("native", native), ("torch", reference)) for text in found.inexact]
    return verdict, (why if verdict == "different" else []) + inexact


class Sanitized:
    """Runs native kernels under the address and undefined-behaviour sanitizers, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.emulators: dict[tuple[str, str | None], Emulator] = {}

    def __call__(self, configuration: Configuration) -> AbstractContextManager[Any]:
        """A context in which native calls run so, by the build for this configuration."""
        key = (str(configuration.dtype).removeprefix("torch."), configuration.store)
        if key not in self.emulators:
            self.emulators[key] = Emulator("address,undefined", self.folder, real=key[0], store=key[1])
        return self.emulators[key].instead()


def run(seeds: Iterable[int], where: Where = lambda configuration: nullcontext(), file: Path | None = None) -> dict[str, Any]:
    """Check configurations; return counts, and the faults found."""
    torch.set_num_threads(1)
    verdicts: Counter[str] = Counter()
    hostile: Counter[str] = Counter()
    faults: list[str] = []
    summary: dict[str, Any] = {}
    for number, seed in enumerate(seeds, 1):
        configuration = draw(seed)
        try:
            verdict, wrong = check(configuration, where)
        except (SanitizerError, RuntimeError, ValueError, IndexError) as error:
            verdict, wrong = "failed", [f"{type(error).__name__}: {error}"]
        verdicts[verdict] += 1
        hostile[configuration.hostile] += 1
        if wrong:
            faults.append(f"--only {seed} ({configuration}): {'; '.join(wrong[:8])}")
            print(faults[-1], file=sys.stderr, flush=True)
        summary = {"configurations": number, "verdicts": dict(sorted(verdicts.items())), "hostile": dict(sorted(hostile.items()))}
        summary["faults"] = faults
        if file:
            write_atomically(file, json.dumps(summary, indent=1))
    return summary


def main() -> None:
    """Run as a program; exit code 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first one is 1,000,000 times this")
    parser.add_argument("--only", type=int)
    parser.add_argument("--sanitizers", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if wrong := build.why_not():
        parser.error(wrong)
    first = given.seed * 1_000_000
    seeds = range(first, first + given.count) if given.only is None else [given.only]
    with tempfile.TemporaryDirectory() as folder:
        counted = run(seeds, Sanitized(Path(folder)), given.out) if given.sanitizers else run(seeds, file=given.out)
    print(json.dumps(counted, indent=1))
    sys.exit(bool(counted["faults"]))


if __name__ == "__main__":
    main()
