"""`build`: a model by its name, from options that need not all be its own, so that one line can make each of several models."""

import difflib
import inspect
import warnings
from collections.abc import Iterable
from typing import Any

from mann_bench.models.dam import DAM
from mann_bench.models.deltanet import DeltaNet
from mann_bench.models.dnc import DNC
from mann_bench.models.lstm import LSTM
from mann_bench.models.mann import MANN
from mann_bench.models.ntm import NTM
from mann_bench.models.pkm import PKM
from mann_bench.models.sam import SAM
from mann_bench.models.sdm import SDM
from mann_bench.models.sdnc import SDNC

KINDS: dict[str, type[LSTM] | type[MANN[Any]]] = {
    "lstm": LSTM,
    "ntm": NTM,
    "dam": DAM,
    "dnc": DNC,
    "sam": SAM,
    "sdnc": SDNC,
    "sdm": SDM,
    "pkm": PKM,
    "deltanet": DeltaNet,
}


def build(name: str, **options: Any) -> LSTM | MANN[Any]:
    """Make a model from the options that fit it.

        for name in ("lstm", "ntm", "sam"):
            model = build(name, input_size=5, output_size=3, slots=64, reads=2)

    Args:
        name: lstm, ntm, dam, dnc, sam, sdnc, sdm, pkm or deltanet, as on the command line.
        options: arguments of any of these models.

    Returns:
        The model, on the CPU in torch's default number type.

    Warns:
        UserWarning: names the options that other models have and this one does not, which are left out.

    Raises:
        ValueError: an unknown name, an option that no model has, one that is missing, or one whose value the model refuses.
    """
    if name not in KINDS:
        raise ValueError(f"name: expected one of {', '.join(KINDS)}, got {name!r}{similar(name, KINDS)}")
    own, known = arguments(KINDS[name]), {option for kind in KINDS.values() for option in arguments(kind)}
    for option in options:
        if option not in known:
            raise ValueError(f"{option}: no model has such an option; {name} has {', '.join(own)}{similar(option, known)}")
    if missing := [option for option, needed in own.items() if needed and option not in options]:
        raise ValueError(f"{name}: expected {' and '.join(f'{option}=...' for option in missing)}, which {name} has no default for")
    if foreign := [option for option in options if option not in own]:
        warnings.warn(f"{name} has no {' and no '.join(foreign)}: left out", UserWarning, stacklevel=2)
    return KINDS[name](**{option: value for option, value in options.items() if option in own})


def arguments(kind: type) -> dict[str, bool]:
    """Name the arguments of a class, with those that it passes on to its base by **, and whether each is needed."""
    found: dict[str, bool] = {}
    for owner in inspect.getmro(kind):
        parameters = inspect.signature(owner).parameters.values()
        for parameter in parameters:
            if parameter.kind is not parameter.VAR_KEYWORD:
                found.setdefault(parameter.name, parameter.default is parameter.empty)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def similar(name: str, known: Iterable[str]) -> str:
    """A hint such as `; did you mean 'sam'?`, or nothing if no known name is similar."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
