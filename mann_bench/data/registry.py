"""Which models there are: built-ins, entry points of group `mann_bench.models`, and `package.module:factory`.

`op:NAME` and `index:NAME` are no models but go through the same cases, runner and results: `KINDS` says what runs them.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError

# Kinds of workload other than a model, by the prefix of their names, and the task whose sequences models are measured on.
# This module names code above it as text: it is the only one that may (tests/test_architecture.py).
KINDS = {"op": "mann_bench.suites.workloads.ops:OpWorkload", "index": "mann_bench.suites.workloads.indexes:IndexWorkload"}
MODEL_TASK = "mann_bench.suites.tasks:associative_recall"

DENSE_VARIANTS: Mapping[str, Mapping[str, object]] = {"plain": {}, "checkpointed": {"checkpoint": True}, "compiled": {"compiled": True}}


@dataclass(frozen=True)
class ModelEntry:
    """A model by name; `target` is `package.module:factory`, variants map to extra factory arguments, `workload` is what runs it."""

    name: str
    target: str
    summary: str = "a model of the user's own"
    source: str = ""
    time_per_step: str = "?"
    space_per_step: str = "?"
    uses_slots: bool = True
    variants: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"plain": {}})
    has_index: bool = False
    workload: str = "mann_bench.measure.workload:ModelWorkload"

    @property
    def indexes(self) -> tuple[str, ...]:
        """Names of the indexes that the model can use."""
        if not self.has_index:
            return ("exact",)
        from mann_bench.kernels.index import INDEXES  # imports torch, which takes seconds: not for `mann-bench --help`

        return tuple(INDEXES)

    def load(self) -> Callable[..., Any]:
        """The factory; UsageError if its module or attribute is missing."""
        return import_target(f"model {self.name!r}", self.target)

    def build(self, case: Case, **other: int) -> Any:
        """The module for a case, its sizes (or `other` ones) passed as far as the factory's signature takes them."""
        factory = self.load()
        sizes: dict[str, object] = {name: getattr(case, name) for name in ("input_size", "output_size", "hidden", "slots", "word_size")}
        sizes |= {"heads": case.heads, "reads": case.reads, "index": case.index, "kernels": case.kernels, **other}
        accepted = inspect.signature(factory).parameters
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values()):
            sizes = {name: value for name, value in sizes.items() if name in accepted}
        return factory(**sizes, **self.variants[case.variant])


BUILT_INS = {
    entry.name: entry
    for entry in (
        ModelEntry(
            "lstm",
            "mann_bench.models:LSTM",
            "controller without a memory: the floor",
            "Hochreiter & Schmidhuber 1997",
            "O(1)",
            "O(1)",
            uses_slots=False,
        ),
        ModelEntry(
            "ntm",
            "mann_bench.models:NTM",
            "content and location addressing over a dense memory",
            "Graves et al. 2014, section 3",
            "O(N)",
            "O(N)",
            variants=DENSE_VARIANTS,
        ),
        ModelEntry(
            "dam",
            "mann_bench.models:DAM",
            "SAM's dense twin: the same writes, read weights over all rows",
            "Rae et al. 2016, section 3.2",
            "O(N)",
            "O(N)",
            variants=DENSE_VARIANTS,
        ),
        ModelEntry(
            "dnc",
            "mann_bench.models:DNC",
            "allocation, temporal links and read modes over a dense memory",
            "Graves et al. 2016, Methods",
            "O(N^2)",
            "O(N^2)",
            variants=DENSE_VARIANTS,
        ),
        ModelEntry(
            "sam",
            "mann_bench.models:SAM",
            "sparse reads and writes in one memory, rolled back in backward",
            "Rae et al. 2016, section 3",
            "O(K), and the search: O(N) of index=exact, about O(N^(1/4)) of lsh for one recall",
            "O(1)",
            has_index=True,
        ),
        ModelEntry(
            "sdnc",
            "mann_bench.models:SDNC",
            "SAM with temporal links in two row-sparse matrices",
            "Rae et al. 2016, supplement D",
            "O(K + K_L^2), and the search as of SAM",
            "O(1)",
            has_index=True,
        ),
    )
}


def import_target(what: str, target: str) -> Any:
    """The class or function `package.module:name`; UsageError, beginning with `what` it is for, if it cannot be had."""
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise UsageError(
            f"{what}: expected {target!r} to be importable, got {type(error).__name__}: {error}; "
            "check the name and that its folder is on PYTHONPATH"
        ) from error
    if not callable(found):
        raise UsageError(f"{what}: expected {target!r} to be a class or function, got {type(found).__name__}")
    return found


def find_model(name: str) -> ModelEntry:
    """A model by built-in name, entry point or `package.module:factory`, or a workload of another kind as `op:NAME`; UsageError with near
    names otherwise.
    """
    kind, _, rest = name.partition(":")
    if kind in KINDS:
        known = import_target(kind, KINDS[kind]).names()
        if rest not in known:
            raise UsageError(f"{kind}: expected one of {', '.join(known)}, got {rest!r}{did_you_mean(rest, known)}")
        return ModelEntry(name, KINDS[kind], workload=KINDS[kind])
    if ":" in name:
        return ModelEntry(name, name)
    outside = {point.name: point for point in entry_points(group="mann_bench.models")}
    if name in BUILT_INS:
        return BUILT_INS[name]
    if name in outside:
        return ModelEntry(name, outside[name].value)
    known = sorted({*BUILT_INS, *outside})
    raise UsageError(f"model: expected one of {', '.join(known)} or package.module:factory, got {name!r}{did_you_mean(name, known)}")


def describe_models() -> list[dict[str, Any]]:
    """One line a model: source, cost per step, options and parameter count at the paper's sizes (X 10, H 100, W 32, R 4, N 64)."""
    names = [*BUILT_INS, *(point.name for point in entry_points(group="mann_bench.models"))]
    return [_describe(find_model(name)) for name in dict.fromkeys(names)]


def _describe(entry: ModelEntry) -> dict[str, Any]:
    import torch  # takes seconds: not for `mann-bench --help`

    case = Case(suite="list", model=entry.name, slots=64)
    try:
        with torch.device("meta"):
            parameters = f"{sum(p.numel() for p in entry.build(case).parameters()):,}"
        options = [str(p) for p in _parameters(entry.load()) if p.default is not p.empty and p.name not in Case.model_fields]
    except Exception as error:  # a broken outside model must not hide the others
        parameters, options = f"cannot be built: {error}", []
    return {
        "model": entry.name,
        "what": entry.summary,
        "source": entry.source,
        "time per step": entry.time_per_step,
        "space per step": entry.space_per_step,
        "variants": [name for name in entry.variants if name != "plain"],
        "indexes": list(entry.indexes) if entry.uses_slots else [],
        "options": options,
        "parameters": parameters,
    }


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """All arguments by name, those that a class passes on to its base with ** included."""
    found: dict[str, inspect.Parameter] = {}
    for owner in inspect.getmro(factory) if inspect.isclass(factory) else (factory,):
        parameters = inspect.signature(owner).parameters
        found = {name: p for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return list(found.values())


def split_variant(name: str) -> tuple[str, str]:
    """`ntm-checkpointed` -> ("ntm", "checkpointed"); a plain name has variant "plain"."""
    base, dash, variant = name.rpartition("-")
    if ":" not in name and dash and base in BUILT_INS:
        variants = BUILT_INS[base].variants
        if variant not in variants:
            raise UsageError(
                f"model: expected a variant of {base} ({', '.join(variants)}), got {name!r}{did_you_mean(variant, list(variants))}"
            )
        return base, variant
    return name, "plain"


def did_you_mean(name: str, known: list[str]) -> str:
    """A hint such as `; did you mean 'quick'?`, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
