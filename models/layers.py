"""The layers of a model as native kernels read them: only their parameters, so that a layer must be exactly of the type they know."""

import functools
import operator
import warnings
from typing import Protocol

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.module import _has_any_global_hook

from mann_bench.kernels.native import build, call
from mann_bench.kernels.native.layout import Build, Layout, of_buffer
from mann_bench.kernels.sequence.recurrence import Weights
from mann_bench.kernels.sequence.shapes import weight_shapes

LAYERS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {  # in the order of `Weights`
    "controller": (nn.LSTMCell, ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    "interface": (nn.Linear, ("weight", "bias")),
    "output": (nn.Linear, ("weight", "bias")),
}
PARAMETERS = [(name, parameter) for name, (_, parameters) in LAYERS.items() for parameter in parameters]
KINDS = {Tensor, nn.Parameter, FakeTensor}
SIZES = operator.attrgetter("input_size", "output_size", "hidden", "word_size", "heads", "interface_size")
HOOKS = operator.itemgetter("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
STEPWISE = (  # methods of the step-by-step reference that a native pass stands for
    "unroll",
    "unroll_padded",
    "step",
    "access",
    "control",
    "prepare",
    "apply_step",
    "split_interface",
    "write",
    "read",
    "touch_read",
    "content_lookup",
    "link",
    "weighted_read",
    "address",
    "least_used",
    "positive",
)


class Layered(Protocol):
    """A model with the layers of `MANN`, and the sizes that their shapes follow from."""

    input_size: int
    output_size: int
    hidden: int
    word_size: int
    heads: int
    interface_size: int
    controller: nn.LSTMCell
    interface: nn.Linear
    output: nn.Linear


def choose(kernels: str, reason: str | None) -> str:
    """Resolve `kernels` to what runs, "native" or "torch"; `reason`: why native kernels cannot run here.

    Warns:
        RuntimeWarning: "native" was asked for and cannot run.
    """
    if reason and kernels == "native":
        warnings.warn(f"kernels='native' runs as 'torch': {reason}", RuntimeWarning, stacklevel=4)
    return "torch" if reason or kernels == "torch" else "native"


def wrong_for(kernels: str, model: Layered, *, fit: bool = True) -> str | None:
    """Return `why_not(model, fit=fit)`; ValueError if "native" was asked for and would not compute what the model does."""
    wrong = why_not(model, fit=fit)
    if wrong and kernels == "native":
        raise ValueError(f"kernels='native' cannot run this model: {wrong}; use kernels='auto', which runs it on torch")
    return wrong


def why_not(model: Layered, runs: str = "native_inputs", *, fit: bool = True) -> str | None:
    """Return why native kernels would not compute what this model does, or None.

    A hook of its parameters does no harm, as autograd runs those. Weights shared by two layers have one gradient, the sum.

    Args:
        runs: the method with which a model says what native kernels compute.
        fit: whether the weights are looked at, and not only of what kind they are; a native call looks at them anyway.
    """
    modules: dict[str, nn.Module] = vars(model)["_modules"]
    found: list[Tensor] = []
    for name, (kind, parameters) in LAYERS.items():
        layer = modules[name]
        if type(layer) is not kind:
            return f"its layer {name} is of type {type(layer).__name__}, not torch.nn.{kind.__name__}"
        own = vars(layer)
        if any(HOOKS(own)):
            return f"its layer {name} has hooks, which native kernels do not call"
        if "forward" in own:
            return f"its layer {name} has a method forward of its own"
        for parameter in parameters:
            if (weight := own["_parameters"].get(parameter)) is None:
                return f"its layer {name} has no {parameter}"
            found.append(weight)
    if _has_any_global_hook():
        return "there are hooks of all modules, which native kernels do not call"
    if method := replaced_method(type(model), runs):
        return f"its method {method} is not that of the model whose steps native kernels compute"
    return _wrong_weight(found, SIZES(model) if fit else None)


@functools.cache
def replaced_method(kind: type, runs: str = "native_inputs") -> str | None:
    """Find a step-by-step method that a class overrides but not the method `runs` (`why_not`)."""
    order = kind.__mro__

    def definer(name: str) -> int:
        return next((place for place, base in enumerate(order) if name in vars(base)), len(order))

    return next((name for name in STEPWISE if definer(name) < definer(runs)), None)


def weights(model: Layered) -> Weights:
    """Gather the parameters of controller, interface and output layer."""
    modules = vars(model)["_modules"]
    return Weights(*[modules[name]._parameters[parameter] for name, parameter in PARAMETERS])


def output_weight(model: Layered) -> Tensor:
    """The weight of the output layer, whose type and device are the model's; what torch's modules do to find it takes longer."""
    layer: nn.Module = vars(model)["_modules"]["output"]
    found = layer._parameters.get("weight")
    return model.output.weight if found is None else found  # pruned or parametrized


def _wrong_weight(found: list[Tensor], sizes: tuple[int, ...] | None) -> str | None:
    """Say of the first parameter that kernels cannot read what is wrong with it.

    Args:
        sizes: those of the model, as `SIZES` has them; None: what follows from them is not checked.
    """
    if not KINDS.issuperset(map(type, found)):
        other = next(type(weight).__name__ for weight in found if type(weight) not in KINDS)
        return f"it has weights of type {other}, which native kernels cannot read"
    real = call.name_of(Weights(*found).output_weight.dtype)
    if real not in build.REALS:
        return f"native kernels compute in {' or '.join(build.REALS)}, not in {real}"
    if sizes is None:
        return None
    layout = _layout(real, sizes)
    return None if layout.fit(found) else layout.misfit(found)


@functools.lru_cache
def _layout(real: str, sizes: tuple[int, ...]) -> Layout:
    named = dict(zip(("input_size", "output_size", "hidden", "width", "heads", "interface_size"), sizes, strict=True))
    which = Build(real, real)
    return Layout(which, [of_buffer(which, name, shape) for name, shape in weight_shapes(named).items()])
