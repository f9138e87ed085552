"""The paper's claims against the results: each claim is data (`claims.toml`), judged by one of four formulas, with honest remarks.

Those about learning are judged in `learning_claims.py`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mann_bench.data.case import CURVE, Case
from mann_bench.data.units import format_bytes, parse_size
from mann_bench.reports.analysis.limits import EXACT
from mann_bench.reports.analysis.scaling import fit_exponent
from mann_bench.reports.data.quantity import QUANTITIES, TIME

Verdict = Literal["exceeded", "reproduced", "not reproduced", "not run"]
Side = dict[str, str | int]

CLOSE = 1.1  # a value within this factor of the paper's reproduces it
FLAT = 0.05  # an exponent within this of the paper's reproduces it
NO_RUN = "no case of these runs is in this set-up; `mann-bench run paper` has them"
NO_TRAINING = (
    "no training run of these folders is in this set-up; `mann-bench learn` makes them, and `mann-bench claims` takes their folders too"
)
LEARNING = ("as_well", "faster", "level", "beyond", "failed")
UNITS = {"step_ms": "ms", "bytes_per_step": "bytes", "pass_bytes": "bytes", "start_bytes": "bytes", "peak_bytes": "bytes"}


class Claim(BaseModel):
    """One claim; see `claims.toml` for the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    says: str
    source: str
    kind: Literal["ratio", "value", "difference", "exponent", "as_well", "faster", "level", "beyond", "failed"]
    paper: float | None = None
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
        needed = {"ratio": ("of", "paper", "over"), "difference": ("of", "paper", "less")}.get(self.kind, ("of", "paper"))
        if self.kind in LEARNING:
            needed = ("task", "levels") if self.kind in ("as_well", "faster") else ("task", "paper")
        missing = [name for name in needed if getattr(self, name) in ({}, None, "")]
        if missing or self.quantity not in UNITS:
            raise ValueError(f"claim {self.id}: expected {' and '.join(missing) or 'a quantity of ' + ', '.join(UNITS)}")
        return self

    @property
    def paper_text(self) -> str:
        """The paper's number for people."""
        return {"as_well": "as well", "faster": "faster"}.get(self.kind, "-") if self.paper is None else self.show(self.paper)

    def show(self, value: float) -> str:
        """A value of this claim with its unit."""
        if self.kind in ("ratio", "as_well", "faster"):
            return f"{value:,.3g}x" if value < 1000 else f"{value:,.0f}x"
        if self.kind in LEARNING:
            return f"{value:,.0f}"
        if self.kind == "exponent":
            return f"N^{value:.2f}"
        return _with_unit(self.quantity, value)


@dataclass(frozen=True)
class Judged:
    """A claim against one set-up of one run; `how` is that set-up, `remarks` what a fair reader must know."""

    claim: Claim
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    how: str = ""
    remarks: tuple[str, ...] = ()
    case_ids: tuple[str, ...] = ()

    @property
    def ours_text(self) -> str:
        """Our number for people, with its interval if it has one."""
        if self.value is None:
            return "-"
        interval = "" if self.low is None or self.high is None else f" [{self.claim.show(self.low)}, {self.claim.show(self.high)}]"
        return self.claim.show(self.value) + interval


@cache
def claims() -> tuple[Claim, ...]:
    """All of them, in the order of the file."""
    text = resources.files("mann_bench.reports.claims").joinpath("claims.toml").read_text()
    return tuple(Claim(**raw) for raw in tomllib.loads(text)["claim"])


def judge_claims(frame: pd.DataFrame | None, learned: Mapping[str, list[Judged]] | None = None) -> list[Judged]:
    """Each claim against every set-up of the frame (`load_frame`; None: no benchmark ran) that it is about, those about learning as
    `learned` has judged them by their id; at least one line a claim.
    """
    judged = []
    for claim in claims():
        if claim.kind in LEARNING:
            found, why_not = (learned or {}).get(claim.id, []), NO_TRAINING
        else:
            found, why_not = _judge(claim, frame[frame["status"] == "ok"]) if frame is not None else [], NO_RUN
        judged += found or [Judged(claim, "not run", remarks=(why_not,))]
    return judged


def verdict_of(claim: Claim, value: float) -> Verdict:
    """Better than the paper by more than `CLOSE` is exceeded, worse by more is not reproduced."""
    assert claim.paper is not None
    if claim.kind == "exponent":
        return "reproduced" if value <= claim.paper + FLAT else "not reproduced"
    gain = value / claim.paper if claim.better == "higher" else claim.paper / max(value, 1e-12)
    return "exceeded" if gain > CLOSE else "reproduced" if gain >= 1 / CLOSE else "not reproduced"


def _judge(claim: Claim, frame: pd.DataFrame) -> list[Judged]:
    rows = _matching(frame, claim.where)
    if claim.kind == "exponent":
        return [j for _, curve in _matching(rows, claim.of).groupby(_setup(rows, "slots"), sort=False) for j in _judge_curve(claim, curve)]
    other = claim.over or claim.less
    found = []
    for _, setup in rows.groupby(_setup(rows), sort=False):
        for _, subject in _matching(setup, claim.of).iterrows():
            partners = [row for _, row in _matching(setup, other).iterrows()] if other else [None]
            found += [_judge_pair(claim, subject, partner, setup) for partner in partners]
    return found


def _judge_pair(claim: Claim, subject: pd.Series, partner: pd.Series | None, setup: pd.DataFrame) -> Judged:
    value, low, high = _quantity(claim.quantity, subject)
    case_ids = [str(subject["case_id"])]
    ours = subject
    if partner is not None:
        ours = partner if claim.kind == "ratio" else subject
        case_ids.append(str(partner["case_id"]))
        other, other_low, other_high = _quantity(claim.quantity, partner)
        if claim.kind == "ratio":
            value, low, high = value / other, low / other_high, high / other_low
        else:
            value, low, high = value - other, low - other_high, high - other_low
    remarks = [claim.note] if claim.note else []
    if claim.kind == "ratio":
        remarks += _about_baseline(claim, subject, ours, setup)
    remarks += _about_ours(ours)
    timed = claim.quantity == "step_ms"  # bytes are counted: they have no interval
    ends = (low if timed else None, high if timed else None)
    return Judged(claim, verdict_of(claim, value), value, ends[0], ends[1], _how(subject), tuple(remarks), tuple(case_ids))


def _judge_curve(claim: Claim, curve: pd.DataFrame) -> list[Judged]:
    quantity = next(q for q in QUANTITIES if q.column == (TIME.column if claim.quantity == "step_ms" else claim.quantity))
    fit = fit_exponent(curve["slots"], curve[quantity.column], quantity.errors(curve))
    if fit is None:
        return []
    remarks = [claim.note] if claim.note else []
    remarks += [f"Fitted over N = {fit.segments[-1].first_slots:,} to {fit.segments[-1].last_slots:,}.", *_about_ours(curve.iloc[-1])]
    case_ids = tuple(map(str, curve["case_id"]))
    return [Judged(claim, verdict_of(claim, fit.value), fit.value, fit.ci_low, fit.ci_high, _how(curve.iloc[-1]), tuple(remarks), case_ids)]


def _about_baseline(claim: Claim, dense: pd.Series, ours: pd.Series, setup: pd.DataFrame) -> list[str]:
    """How frugal our dense model is, and the ratio against the best of its variants: a heavy baseline would flatter us."""
    took = _with_unit(claim.quantity, _quantity(claim.quantity, dense)[0])
    paper = f", the paper's {_with_unit(claim.quantity, claim.baseline)}" if claim.baseline else ""
    per_slot = dense["bytes_per_step"] / dense["slots"] / dense["batch"]
    theirs = " (the paper's about 4,900)" if dense["model"] == "ntm" else ""
    said = [f"Our {dense['curve']} took {took}{paper}; it keeps {per_slot:,.0f} bytes a slot and step{theirs}."]
    variants = setup[(setup["model"] == dense["model"]) & (setup["variant"] != dense["variant"])]
    if len(variants):
        best = min((row for _, row in variants.iterrows()), key=lambda row: _quantity(claim.quantity, row)[0])
        ratio = _quantity(claim.quantity, best)[0] / _quantity(claim.quantity, ours)[0]
        said.append(f"Against {best['curve']}: {claim.show(ratio)}.")
    return said


def _about_ours(row: pd.Series) -> list[str]:
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    known = f", recall {row['recall']:.2f}" if row["recall"] == row["recall"] else ", recall not measured"
    recall = "" if row["index"] in EXACT else known
    return [f"{row['device_name']}, {threads}, kernels {row['ran_kernels']}, index {row['index']}{recall}."]


def _matching(frame: pd.DataFrame, side: Side) -> pd.DataFrame:
    for name, value in side.items():
        frame = frame[frame[name] == value]
    return frame


def _setup(frame: pd.DataFrame, *others: str) -> list[pd.Series]:
    """What must be equal on both sides of a ratio: every field of a case that is not compared; for a curve, all but `others`."""
    names = ["run", *(name for name in Case.model_fields if name not in ("suite", *(others or CURVE)))]
    return [frame[name] for name in names]


def _quantity(name: str, row: pd.Series) -> tuple[float, float, float]:
    if name == "step_ms":
        return tuple(float(row[f"step_ms_{part}"]) for part in ("median", "ci_low", "ci_high"))  # type: ignore[return-value]
    return (float(row[name]),) * 3


def _with_unit(quantity: str, value: float) -> str:
    if UNITS[quantity] == "bytes":
        return format_bytes(value)
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def _how(row: pd.Series) -> str:
    shape = f"N {row['slots']:,}, B {row['batch']}, T {row['steps']}"
    passes = "forward and backward" if row["mode"] == "train" else "forward"
    return f"{shape}, {passes}, memory {row['fill']}; median of {row['samples']} passes, run {row['run']}"


def to_json(judged: Judged) -> dict[str, Any]:
    """For a program."""
    return {
        "id": judged.claim.id,
        "says": judged.claim.says,
        "source": judged.claim.source,
        "paper": judged.claim.paper,
        "value": judged.value if judged.value is None or np.isfinite(judged.value) else None,
        "ci_low": judged.low,
        "ci_high": judged.high,
        "verdict": judged.verdict,
        "how": judged.how,
        "remarks": list(judged.remarks),
        "case_ids": list(judged.case_ids),
    }
