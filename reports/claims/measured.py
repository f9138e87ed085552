"""Judge claims about time and memory from measured cases: ratio, value, difference or order, with honest remarks."""

import pandas as pd

from mann_bench.data.case import CURVE, Case
from mann_bench.reports.analysis.scaling import ORDERS, Growth, fit_growth
from mann_bench.reports.claims.claim import Claim, ClaimVerdict, Side, Verdict, format_quantity, verdict_of
from mann_bench.reports.data.floor import floor_text
from mann_bench.reports.data.frame import EXACT_INDEXES
from mann_bench.reports.data.quantity import QUANTITIES, TIME


def judge_measured(claim: Claim, frame: pd.DataFrame) -> list[ClaimVerdict]:
    """Judge a claim in every setup of the frame that it is about; [] if there is none. Models with options are not the paper's."""
    rows = _matching(frame[(frame["status"] == "ok") & (frame["options"] == "")], claim.where)
    if claim.kind == "order":
        curves = _matching(rows, claim.of).groupby(_setup(rows, "slots"), sort=False)
        return [verdict for _, curve in curves for verdict in _judge_curve(claim, curve)]
    other = claim.over or claim.less
    verdicts = []
    for _, setup in rows.groupby(_setup(rows), sort=False):
        for subject in _fastest(_matching(setup, claim.of)):
            partners: list[pd.Series] | list[None] = _fastest(_matching(setup, other)) if other else [None]
            verdicts += [_judge_pair(claim, subject, partner, setup) for partner in partners]
    return verdicts


def _fastest(rows: pd.DataFrame) -> list[pd.Series]:
    """For each model and index, the variant and kernels that take the least time a step."""
    return [of_index.sort_values("step_ms_median", kind="stable").iloc[0] for _, of_index in rows.groupby(["model", "index"], sort=False)]


def _judge_pair(claim: Claim, subject: pd.Series, partner: pd.Series | None, setup: pd.DataFrame) -> ClaimVerdict:
    value, low, high = _quantity(claim.quantity, subject)
    case_ids = [str(subject["case_id"])]
    ours = subject
    if partner is not None:
        ours = partner if claim.kind == "ratio" else subject
        case_ids.append(str(partner["case_id"]))
        other, other_low, other_high = _quantity(claim.quantity, partner)
        if claim.kind == "ratio" and not (value and other):
            both = " and ".join(format_quantity(claim.quantity, size) for size in (value, other))
            return ClaimVerdict(claim, "not run", how=_how(subject), remarks=(f"{both}: there is no ratio to zero.",))
        if claim.kind == "ratio":
            value, low, high = value / other, low / other_high, high / other_low
        else:
            value, low, high = value - other, low - other_high, high - other_low
    remarks = [claim.note] if claim.note else []
    if claim.kind == "ratio":
        remarks += _about_baseline(claim, subject, ours, setup)
    remarks += _about_ours(ours)
    timed = claim.quantity == "step_ms"  # bytes are counted and have no interval
    ends = (low if timed else None, high if timed else None)
    return ClaimVerdict(claim, verdict_of(claim, value), value, ends[0], ends[1], _how(subject), tuple(remarks), tuple(case_ids))


def _judge_curve(claim: Claim, curve: pd.DataFrame) -> list[ClaimVerdict]:
    quantity = next(q for q in QUANTITIES if q.column == (TIME.column if claim.quantity == "step_ms" else claim.quantity))
    growth = fit_growth(curve["slots"], curve[quantity.column], quantity.errors(curve))
    if growth is None:
        return []
    largest = curve.sort_values("slots", kind="stable").iloc[-1]
    remarks = [claim.note] if claim.note else []
    remarks += [f"Fitted over N = {growth.slots[0]:,.0f} to {growth.slots[-1]:,.0f}.", *_about_ours(largest)]
    case_ids = tuple(map(str, curve["case_id"]))
    verdict = _verdict_of_order(claim, growth)
    return [ClaimVerdict(claim, verdict, how=_how(largest), remarks=tuple(remarks), case_ids=case_ids, order=growth.verdict)]


def _verdict_of_order(claim: Claim, growth: Growth) -> Verdict:
    """Compare orders: "not decided" if the points cannot tell one that the claim allows from one that it does not."""
    orders = list(ORDERS)
    allowed = [orders.index(order) <= orders.index(claim.order) for order in (growth.order, *growth.equally_good)]
    return "reproduced" if all(allowed) else "not decided" if any(allowed) else "not reproduced"


def _about_baseline(claim: Claim, dense: pd.Series, ours: pd.Series, setup: pd.DataFrame) -> list[str]:
    """Say what our dense baseline costs, how near it is to its floor, and the ratios to other variants.

    Those are the model step by step in torch, and the variant that is best in the quantity.
    """
    took = format_quantity(claim.quantity, _quantity(claim.quantity, dense)[0])
    paper = f", the paper's {format_quantity(claim.quantity, claim.baseline)}" if claim.baseline else ""
    per_slot = dense["bytes_per_step"] / dense["slots"] / dense["batch"]
    paper_per_slot = " (the paper's about 4,900)" if dense["model"] == "ntm" else ""
    remarks = [f"Our {dense['curve']} took {took}{paper}; it keeps {per_slot:,.0f} bytes a slot and step{paper_per_slot}."]
    if reached := floor_text(dense):
        remarks.append(f"Against what a step cannot avoid moving: {reached}.")
    variants = [row for _, row in setup[setup["model"] == dense["model"]].iterrows()]
    best = min(variants, key=lambda row: _quantity(claim.quantity, row)[0])
    for row in variants:
        is_plain = row["variant"] == "plain" and row["ran_kernels"] == "torch"
        if row["case_id"] != dense["case_id"] and (is_plain or row is best):
            ratio = _quantity(claim.quantity, row)[0] / _quantity(claim.quantity, ours)[0]
            remarks.append(f"Against {row['curve']}{', step by step in torch' if is_plain else ''}: {claim.show(ratio)}.")
    return remarks


def _about_ours(row: pd.Series) -> list[str]:
    """Device, threads, kernels and index of our sparse case, and the recall of an approximate index."""
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    measured = f", recall {row['recall']:.2f}" if row["recall"] == row["recall"] else ", recall not measured"
    recall = "" if row["index"] in EXACT_INDEXES else measured
    return [f"{row['device_name']}, {threads}, kernels {row['ran_kernels']}, index {row['index']}{recall}."]


def _matching(frame: pd.DataFrame, side: Side) -> pd.DataFrame:
    for name, value in side.items():
        frame = frame[frame[name] == value]
    return frame


def _setup(frame: pd.DataFrame, *others: str) -> list[pd.Series]:
    """The columns that must be equal on both sides of a claim: the run and all fields of a case except those of `CURVE`, or `others`."""
    names = ["run", *(name for name in Case.model_fields if name not in ("suite", *(others or CURVE)))]
    return [frame[name] for name in names]


def _quantity(name: str, row: pd.Series) -> tuple[float, float, float]:
    """The value and the ends of its interval."""
    if name == "step_ms":
        return tuple(float(row[f"step_ms_{part}"]) for part in ("median", "ci_low", "ci_high"))  # type: ignore[return-value]
    return (float(row[name]),) * 3


def _how(row: pd.Series) -> str:
    """The setup of a measured case, as text."""
    shape = f"N {row['slots']:,}, B {row['batch']}, T {row['steps']}"
    passes = "forward and backward" if row["mode"] == "train" else "forward"
    return f"{shape}, {passes}, memory {row['fill']}; median of {row['samples']} passes, run {row['run']}"
