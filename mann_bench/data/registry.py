"""What a case's `model` may be: a built-in, an entry point of group `mann_bench.models`, `module:factory`, `op:NAME` or `index:NAME`.

This file is the one place that names code of higher layers (models, workloads, the task). It names them as `package.module:attribute`
and imports none: each is loaded when a case needs it, so that commands which measure nothing start without torch.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

from mann_bench.data.case import Case, full_name
from mann_bench.data.constructors import Constructor, Option, constructor_of, without
from mann_bench.data.errors import UsageError, did_you_mean
from mann_bench.data.options import Options, Value

if TYPE_CHECKING:
    from torch import nn

MODEL_WORKLOAD = "mann_bench.measure.workload:ModelWorkload"  # runs a model
SLOTS_NEAR = "mann_bench.kernels.reference.product_keys:slots_near"
BENCHMARK_TASK = "mann_bench.suites.tasks:associative_recall"  # the task whose sequences models are measured on
# Workloads that run no model, by the prefix of their names: `op:sparse_read`, `index:query`.
KINDS = {"op": "mann_bench.suites.workloads.ops:OpWorkload", "index": "mann_bench.suites.workloads.indexes:IndexWorkload"}

# Fields of a case that a factory is given, each by its name, if it takes it.
GIVEN = ("input_size", "output_size", "hidden", "slots", "word_size", "heads", "reads", "index", "kernels")

NATIVE_CHECKPOINTED = "native-checkpointed"  # the variant of dense models whose checkpointed segments are native calls
GRAPH = "graph"  # the variant whose passes are replayed from a CUDA graph, by a workload of its own
GRAPH_WORKLOAD = "mann_bench.measure.graph:GraphWorkload"
VARIANTS: Mapping[str, Mapping[str, object]] = {"plain": {}, GRAPH: {}}
DENSE_VARIANTS: Mapping[str, Mapping[str, object]] = {
    "plain": {},
    "checkpointed": {"checkpoint": True},
    NATIVE_CHECKPOINTED: {"checkpoint": True, "kernels": "native"},
    "compiled": {"compiled": True},
    GRAPH: {},
}


@dataclass(frozen=True)
class ModelEntry:
    """A model or another kind of workload.

    Attributes:
        target: `package.module:factory`.
        variants: extra arguments of the factory, by variant.
        writers: how many rows a step overwrites: "heads" for one a head, "one", or "" where no row is a write's own.
        uses_index: whether the model searches its memory by an index of `mann_bench.kernels.index`.
        native: which native kernels the model has: "sparse", "dense", or "" for none. All that is not built in may use sparse ones.
        squares: whether N must be a perfect square, unless an option "factors" says otherwise.
        package: of a peer, what pip installs; "" for a model of our own.
        license: of that package.
        memory: what its memory is in the ledger, and what N means.
        workload: the `Workload` class that runs it.
    """

    name: str
    target: str
    summary: str = "user-defined model"
    source: str = ""
    time_per_step: str = "?"
    space_per_step: str = "?"
    uses_slots: bool = True
    variants: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"plain": {}})
    writers: Literal["heads", "one", ""] = ""
    uses_index: bool = False
    native: Literal["sparse", "dense", ""] = "sparse"
    squares: bool = False
    package: str = ""
    license: str = ""
    memory: str = ""
    workload: str = MODEL_WORKLOAD

    def load(self) -> "Callable[..., nn.Module]":
        """Import the factory; UsageError if its module or attribute is missing."""
        factory: Callable[..., nn.Module] = import_target(f"model {self.name!r}", self.target)
        return factory

    def slots_near(self, slots: int, options: Options, *, up: bool = False) -> int:
        """The largest N up to `slots` that the model takes, or the least from there; the product, where an option has sizes of factors."""
        if not self.squares:
            return slots
        near: int = import_target("product keys", SLOTS_NEAR)(slots, options.get("factors", 2), up=up)
        return near

    def slots_from(self, least: int, reads: int, options: Options) -> int:
        """The least N >= `least` that the model takes and K rows can be read from: product keys may choose K of each of two factors."""
        return self.slots_near(max(least, reads**2 if self.squares else reads), options, up=True)

    def why_not_made(self, options: Options = Options()) -> str | None:  # noqa: B008  # immutable
        """Why the factory cannot be called, in words: an argument without a default that no case has; UsageError if it is not there."""
        arguments = without(constructor_of(self.load()), (*GIVEN, *options))
        unknown = [name for name, option in arguments.items() if option.default is inspect.Parameter.empty]
        if not unknown:
            return None
        got = ", ".join(map(repr, unknown))
        return f"model {self.name!r}: expected arguments among {', '.join(GIVEN)}, with a default, or given as options, got {got}"

    def why_not(self, device: str = "cpu", dtype: str = "float32") -> str | None:
        """Why a peer cannot run here, as that its package is missing; None for other models. Its package is not imported."""
        reason: str | None = getattr(self.load(), "why_not")(device, dtype) if self.package else None  # noqa: B009  # a `Peer`
        return reason

    def options(self) -> dict[str, Option]:
        """Arguments of the factory that no field of a case and no variant sets, by name."""
        return self._options(constructor_of(self.load()))

    def may_take(self, name: str) -> bool:
        """Whether it has an option of this name, as far as is known without running code of the user's: a model of the user's has any."""
        if self.workload != MODEL_WORKLOAD:
            return False
        return self.name not in SHIPPED or name in self.options()

    def why_not_option(self, name: str, value: Value) -> str | None:
        """Why an option cannot have a value, in words that name the options there are; None if it can. It loads the factory."""
        if self.workload != MODEL_WORKLOAD:
            return f"{self.name} is no model and has no options, got {name!r}"
        constructor = constructor_of(self.load())
        known = self._options(constructor)
        if name in known:
            problem = known[name].problem(value)
            return f"{self.name}: {problem}" if problem else None
        if (elsewhere := self.not_an_option(name)) or constructor.open:
            return elsewhere
        return f"{self.name} has no option {name!r}: it has {', '.join(known) or 'none'}{did_you_mean(name, list(known))}"

    def not_an_option(self, name: str) -> str | None:
        """Say how an argument is given that is no option, because a field of a case or a variant sets it; None for any other."""
        if name in GIVEN:
            return f"{name}: expected it as a field of the case, as {name} = ..., got it as an option"
        variants = [variant for variant, arguments in self.variants.items() if name in arguments]
        return f"{name}: expected it as a variant, {full_name(self.name, variants[0])}, got it as an option" if variants else None

    def kernels(self, kernels: str, variant: str) -> str:
        """What a case asks for with `kernels` in a variant, which may say it itself; ValueError if they contradict each other."""
        own = str(self.variants.get(variant, {}).get("kernels", kernels))
        if kernels not in ("auto", own):
            raise ValueError(f"kernels: expected auto or {own} with {full_name(self.name, variant)}, got {kernels!r}")
        return own

    def _options(self, constructor: Constructor) -> dict[str, Option]:
        return without(constructor, {*GIVEN, *(name for arguments in self.variants.values() for name in arguments)})

    def build(self, case: Case, **other: int) -> "nn.Module":
        """Build the module of a case with its options.

        Args:
            other: sizes instead of the case's. The factory gets those sizes that its signature takes.
        """
        factory = self.load()
        sizes: dict[str, object] = {name: getattr(case, name) for name in GIVEN} | other
        sizes["kernels"] = self.kernels(case.kernels, case.variant)
        accepted = inspect.signature(factory).parameters
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values()):
            sizes = {name: value for name, value in sizes.items() if name in accepted}
        known = self.options() if case.options else {}
        options = {name: known[name].argument(value) if name in known else value for name, value in case.options.items()}
        return factory(**{**sizes, **self.variants[case.variant]}, **options)


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
            native="",
            variants=VARIANTS,
        ),
        ModelEntry(
            "ntm",
            "mann_bench.models:NTM",
            "content and location addressing over a dense memory",
            "Graves et al. 2014, section 3",
            "O(N)",
            "O(N)",
            native="dense",
            variants=DENSE_VARIANTS,
        ),
        ModelEntry(
            "dam",
            "mann_bench.models:DAM",
            "SAM's dense twin: the same writes, read weights over all rows",
            "Rae et al. 2016, section 3.2",
            "O(N)",
            "O(N)",
            writers="heads",
            native="dense",
            variants=DENSE_VARIANTS,
        ),
        ModelEntry(
            "dnc",
            "mann_bench.models:DNC",
            "allocation, temporal links and read modes over a dense memory",
            "Graves et al. 2016, Methods",
            "O(N^2)",
            "O(N^2)",
            native="dense",
            variants=DENSE_VARIANTS,
        ),
        ModelEntry(
            "sam",
            "mann_bench.models:SAM",
            "sparse reads and writes in one memory, rolled back in backward",
            "Rae et al. 2016, section 3",
            "O(K), and the search: O(N) of index=exact, about O(N^(1/4)) of lsh for one recall",
            "O(1)",
            writers="heads",
            uses_index=True,
            variants=VARIANTS,
        ),
        ModelEntry(
            "sdnc",
            "mann_bench.models:SDNC",
            "SAM with temporal links in two row-sparse matrices",
            "Rae et al. 2016, supplement D",
            "O(K + K_L^2), and the search as of SAM",
            "O(1)",
            writers="one",
            uses_index=True,
            variants=VARIANTS,
        ),
        ModelEntry(
            "sdm",
            "mann_bench.models:SDM",
            "slots found by product keys, K a head written by a gated delta rule, rolled back in backward",
            "Cabannes et al. 2026",
            "O(K), and the search: O(N^(1/2))",
            "O(1)",
            squares=True,
        ),
        ModelEntry(
            "pkm",
            "mann_bench.models:PKM",
            "a table of values read by product keys, not written: a parameter",
            "Lample et al. 2019",
            "O(K), and the search: O(N^(1/2))",
            "O(1)",
            squares=True,
            native="",
        ),
        ModelEntry(
            "deltanet",
            "mann_bench.models:DeltaNet",
            "gated delta rule with a state of fixed size: the floor without slots",
            "Yang et al. 2024",
            "O(1)",
            "O(1)",
            uses_slots=False,
            native="",
        ),
    )
}

PEERS = {  # memories of other packages (docs/peers.md)
    entry.name: entry
    for entry in (
        ModelEntry(
            "product-key-memory",
            "mann_bench.peers.product_key_memory:ProductKeyMemory",
            "a table of values read by product keys, not written",
            "https://github.com/lucidrains/product-key-memory (Lample et al. 2019)",
            "O(K^2 + N^(1/2)); backward O(N) a pass",
            "O(N^(1/2))",
            squares=True,
            package="product-key-memory",
            license="MIT",
            memory="N rows of a table that all heads share: a parameter, whose gradient is dense",
        ),
        ModelEntry(
            "fast-weight-product-key-memory",
            "mann_bench.peers.fast_weight_product_key_memory:FastWeightProductKeyMemory",
            "product keys over a table that each chunk writes, into a new table",
            "https://github.com/lucidrains/fast-weight-product-key-memory (arXiv 2601.00671)",
            "O(N) a chunk",
            "O(N) a chunk",
            squares=True,
            package="fast-weight-product-key-memory",
            license="MIT",
            memory="N rows of each head, twice: a table that is a parameter, and for each element a state of the same size on top of it",
        ),
        ModelEntry(
            "fla-gated-delta-rule",
            "mann_bench.peers.fla:FlaGatedDeltaRule",
            "gated delta rule with a state of fixed size, as a plain recurrence on the CPU",
            "https://github.com/fla-org/flash-linear-attention (Yang et al. 2024)",
            "O(1)",
            "O(1)",
            uses_slots=False,
            package="fla-core",
            license="MIT",
            memory="a state of W x W numbers a head; it has no slots, and N has no effect",
        ),
        ModelEntry(
            "titans-pytorch",
            "mann_bench.peers.titans_pytorch:Titans",
            "the weights of a small network, changed by a gradient step a token",
            "https://github.com/lucidrains/titans-pytorch (arXiv 2501.00663)",
            "O(N)",
            "O(N)",
            package="titans-pytorch",
            license="MIT",
            memory="N rows of W numbers in the two matrices of each head's network: a parameter, and three times in each element's state",
        ),
        ModelEntry(
            "ixaxaar-dnc",
            "mann_bench.peers.ixaxaar_dnc:IxaxaarDNC",
            "DNC with its own controller; the package's SAM and SDNC do not run as it comes",
            "https://github.com/ixaxaar/pytorch-dnc (Graves et al. 2016)",
            "O(N^2)",
            "O(N^2)",
            package="dnc",
            license="MIT",
            memory="N rows and N x N links for each element: state",
        ),
        ModelEntry(
            "sparse-delta-memory",
            "mann_bench.peers.sparse_delta_memory:SparseDeltaMemory",
            "the authors' SDM: never measured here, only named with the reason",
            "https://github.com/facebookresearch/sparse-delta-memory (Cabannes et al. 2026)",
            squares=True,
            package="sparse-delta-memory",
            license="CC-BY-NC 4.0",
            memory="N rows of each head: state, with a learned start a parameter",
        ),
    )
}
SHIPPED = BUILT_INS | PEERS


def import_target(what: str, target: str) -> Any:
    """Import the class or function `package.module:name`; UsageError, which begins with `what` it is for, if that fails."""
    module_name, _, path = target.partition(":")
    try:
        value: object = importlib.import_module(module_name)
        for attribute in path.split("."):
            value = getattr(value, attribute)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise UsageError(
            f"{what}: expected {target!r} to be importable, got {type(error).__name__}: {error}; "
            "check the name and that its folder is on PYTHONPATH"
        ) from error
    if not callable(value):
        raise UsageError(f"{what}: expected {target!r} to be a class or function, got {type(value).__name__}")
    return value


def find_model(name: str) -> ModelEntry:
    """Look up what a case's `model` stands for; UsageError with similar names if there is nothing of that name."""
    kind, _, rest = name.partition(":")
    if kind in KINDS:
        known = import_target(kind, KINDS[kind]).names()
        if rest not in known:
            raise UsageError(f"{kind}: expected one of {', '.join(known)}, got {rest!r}{did_you_mean(rest, known)}")
        return ModelEntry(name, KINDS[kind], workload=KINDS[kind])
    if ":" in name:
        return ModelEntry(name, name)
    if name in SHIPPED:
        return SHIPPED[name]
    installed = {point.name: point for point in entry_points(group="mann_bench.models")}
    if name in installed:
        return ModelEntry(name, installed[name].value)
    known = sorted({*SHIPPED, *installed})
    raise UsageError(f"model: expected one of {', '.join(known)} or package.module:factory, got {name!r}{did_you_mean(name, known)}")


def check_name(name: str) -> None:
    """UsageError, which names the module, if the name of a model is that of a file, as `my_memory.py:MyMemory`."""
    path, colon, attribute = name.partition(":")
    if colon and path.endswith(".py"):
        folder, _, module = path.removesuffix(".py").rpartition("/")
        where = f" in the folder {folder!r}" if folder else ""
        raise UsageError(f"model: expected package.module:factory, got the file {name!r}; run the command{where} with {module}:{attribute}")


def all_models() -> list[ModelEntry]:
    """The models that have a name: built in, peers, or of an installed package."""
    names = [*SHIPPED, *(point.name for point in entry_points(group="mann_bench.models"))]
    return [find_model(name) for name in dict.fromkeys(names)]


def split_variant(name: str) -> tuple[str, str]:
    """`ntm-checkpointed` -> ("ntm", "checkpointed"), `ntm` -> ("ntm", "plain"); UsageError for a variant that a model does not have."""
    base, dash, variant = name.partition("-")
    if ":" not in name and dash and base in BUILT_INS:
        variants = BUILT_INS[base].variants
        if variant not in variants:
            near = did_you_mean(variant, list(variants))
            raise UsageError(f"model: expected a variant of {base} ({', '.join(variants)}), got {name!r}{near}")
        return base, variant
    return name, "plain"
