"""The paper's claims as data (`claims.toml`), and what a verdict about one holds."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mann_bench.data.case import Case
from mann_bench.data.units import format_bytes, format_number, parse_size

Verdict = Literal["exceeded", "reproduced", "not reproduced", "not decided", "not run"]
Side = dict[str, str | int]  # fields of a case and their values

MAX_FACTOR = 1.1  # a value within this factor of the paper's reproduces it
LEARNING = ("as_well", "faster", "level", "beyond", "failed")  # kinds that are judged from training runs
UNITS = {"step_ms": "ms", "bytes_per_step": "bytes", "pass_bytes": "bytes", "start_bytes": "bytes", "peak_bytes": "bytes"}


class Claim(BaseModel):
    """A claim of the paper; `claims.toml` explains the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    says: str
    source: str
    kind: Literal["ratio", "value", "difference", "order", "as_well", "faster", "level", "beyond", "failed"]
    paper: float | None = None
    order: str = ""
    better: Literal["higher", "lower"] = "higher"
    quantity: str = "step_ms"
    of: Side = Field(default_factory=dict)
    over: Side = Field(default_factory=dict)
    less: Side = Field(default_factory=dict)
    where: Side = Field(default_factory=dict)
    baseline: float | None = None
    task: str = ""
    levels: tuple[int, int] | None = None
    note: str = ""

    @field_validator("of", "over", "less", "where")
    @classmethod
    def _fields(cls, side: Side) -> Side:
        unknown = set(side) - set(Case.model_fields)
        if unknown:
            raise ValueError(f"expected fields of a case, got {', '.join(sorted(unknown))}")
        return {name: parse_size(value) if name == "slots" else value for name, value in side.items()}

    @model_validator(mode="after")
    def _complete(self) -> "Claim":
        of_kind = {"ratio": ("of", "paper", "over"), "difference": ("of", "paper", "less"), "order": ("of", "order")}
        needed = of_kind.get(self.kind, ("of", "paper"))
        if self.kind in LEARNING:
            needed = ("task", "levels") if self.kind in ("as_well", "faster") else ("task", "paper")
        missing = [name for name in needed if getattr(self, name) in ({}, None, "")]
        if missing or self.quantity not in UNITS:
            raise ValueError(f"claim {self.id}: expected {' and '.join(missing) or 'a quantity of ' + ', '.join(UNITS)}")
        return self

    @property
    def paper_text(self) -> str:
        """The paper's number with its unit, or what the paper says where it gives none."""
        if self.kind == "order":
            return self.order
        return {"as_well": "as well", "faster": "faster"}.get(self.kind, "-") if self.paper is None else self.show(self.paper)

    def show(self, value: float) -> str:
        """Format a value of this claim with its unit."""
        if self.kind in ("ratio", "as_well", "faster"):
            return f"{format_number(value)}x"
        if self.kind in LEARNING:
            return f"{value:,.0f}"
        return format_quantity(self.quantity, value)


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim judged in one setup of one run, which `how` describes; `remarks` are what a fair reader must know.

    `order`: how the quantity grows, where the claim is about that.
    """

    claim: Claim
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    how: str = ""
    remarks: tuple[str, ...] = ()
    case_ids: tuple[str, ...] = ()
    order: str = ""

    @property
    def value_text(self) -> str:
        """What was found: our number with its unit, and its interval if it has one."""
        if self.value is None:
            return self.order or "-"
        interval = "" if self.low is None or self.high is None else f" [{self.claim.show(self.low)}, {self.claim.show(self.high)}]"
        return self.claim.show(self.value) + interval


@cache
def load_claims() -> tuple[Claim, ...]:
    """Load all claims, in the order of the file."""
    text = resources.files("mann_bench.reports.claims").joinpath("claims.toml").read_text()
    return tuple(Claim(**fields) for fields in tomllib.loads(text)["claim"])


def verdict_of(claim: Claim, value: float) -> Verdict:
    """Compare a value with the paper's: within `MAX_FACTOR` of it reproduces the claim, better by more exceeds it."""
    assert claim.paper is not None
    gain = value / claim.paper if claim.better == "higher" else claim.paper / max(value, 1e-12)
    return "exceeded" if gain > MAX_FACTOR else "reproduced" if gain >= 1 / MAX_FACTOR else "not reproduced"


def format_quantity(quantity: str, value: float) -> str:
    """`12 s`, `3.5 ms`, `29 GiB`: a value of a claim's quantity with its unit."""
    if UNITS[quantity] == "bytes":
        return format_bytes(value)
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"
