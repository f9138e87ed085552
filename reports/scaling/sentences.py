"""The scaling report in sentences: how each curve grows, and how it compares with its twins."""

import pandas as pd

from mann_bench.data.units import format_bytes, format_number, format_slots
from mann_bench.reports.analysis.gains import Factor, Gain
from mann_bench.reports.analysis.ratios import Ratio
from mann_bench.reports.analysis.scaling import ORDERS, Growth
from mann_bench.reports.claims.claim import load_claims, verdict_of
from mann_bench.reports.data.quantity import TAPE, TIME, Quantity
from mann_bench.reports.scaling.analysis import Analysis

PER_UNIT = {"O(log N)": "a doubling", "O(sqrt N)": "times the root of N", "O(N)": "a slot", "O(N^2)": "a pair of slots"}


def headline(analysis: Analysis) -> str:
    """Say where the paper's ratio is not reached, and how the memory scales and what it costs."""
    return " ".join(filter(None, [not_reached(analysis), _cost(analysis)]))


def not_reached(analysis: Analysis) -> str:
    """Say so if SAM on its hash index does not reproduce the paper's factor over the NTM, against the fastest one where one is native.

    The claim is about training over a full memory of its N. It is taken at every batch, number of steps and of heads that the runs have.
    """
    claim = next(claim for claim in load_claims() if claim.id == "time-ann")
    pair = (claim.of["model"], claim.over["model"], claim.over["index"])
    sides = [gain for gain in analysis.gains if (gain.dense_model, gain.sparse_model, gain.index) == pair and gain.has_native]
    cases = analysis.frame.drop_duplicates("case_id").set_index("case_id")
    of_claim = {name: claim.where[name] for name in ("slots", "mode", "fill")}
    there = [gain for gain in sides if all(cases.loc[gain.sparse.case_id, name] == value for name, value in of_claim.items())]
    if not (short := [gain for gain in there if verdict_of(claim, gain.sparsity.value) == "not reproduced"]):
        return ""
    found = "; ".join(f"{_factor(gain.sparsity)} as fast as {gain.dense.curve} ({gain.setting})" for gain in short)
    slots = format_slots(int(of_claim["slots"]))
    return f"At N = {slots} the paper's {claim.paper_text} over the NTM is not reached: {short[0].sparse.curve} is {found}."


def _cost(analysis: Analysis) -> str:
    """Answer how memory scales and what it costs: the fastest curve at the largest N of the main setting, a sentence for each host."""
    measured = analysis.frame[(analysis.frame["status"] == "ok") & analysis.frame["step_ms_median"].notna()]
    if measured.empty:
        return "No case was measured."
    setting = analysis.main_setting
    there = measured[measured["setting"] == setting]
    largest = there[there["slots"] == there["slots"].max()]
    return " ".join(_fastest(analysis, setting, of_host) for _, of_host in largest.groupby("host", sort=False))


def _fastest(analysis: Analysis, setting: str, largest: pd.DataFrame) -> str:
    """The fastest of the curves that one host has at the largest N."""
    best = largest.sort_values("step_ms_median", kind="stable").iloc[0]
    curve, key = str(best["curve"]), (setting, str(best["curve"]))
    text = f"At the largest memory, N = {format_slots(int(best['slots']))} ({setting}), a step of {curve} takes"
    text += f" {format_number(best['step_ms_median'])} ms and keeps {format_bytes(best['bytes_per_step'])} for backward"
    orders = [(name, analysis.fits[q.key][key].order) for name, q in (("time", TIME), ("memory", TAPE)) if key in analysis.fits[q.key]]
    growth = [f"{name} does not grow with N" if order == "O(1)" else f"{name} grows as {order}" for name, order in orders]
    others = f", the fastest of {len(largest)} curves there" if len(largest) > 1 else ""
    return f"{text}{others}" + (f"; {' and '.join(growth)}." if growth else ".")


def sentences(analysis: Analysis, setting: str) -> list[str]:
    """State what sparsity alone gains in a setting, how memory and time grow, and how each curve compares with its twins."""
    growth = [
        _by_order(analysis, setting, TAPE, "The memory each further step takes"),
        _by_order(analysis, setting, TIME, "The time a step takes"),
    ]
    return [sentence for sentence in [*_sparsity(analysis, setting), *growth, *_against_twins(analysis, setting)] if sentence]


def _sparsity(analysis: Analysis, setting: str) -> list[str]:
    """State what sparsity and the implementation gain, of each sparse curve at the largest N that it shares with a dense model."""
    largest: dict[tuple[str, str], Gain] = {}
    for gain in analysis.gains:
        pair = (gain.sparse.curve, gain.dense_model)
        if gain.setting == setting and gain.is_apart and (pair not in largest or gain.slots > largest[pair].slots):
            largest[pair] = gain
    return [_taken_apart(gain) for gain in largest.values()]


def _taken_apart(gain: Gain) -> str:
    text = f"Sparsity alone, both on native kernels: at N = {format_slots(gain.slots)}, {gain.sparse.curve} is"
    text += f" {_factor(gain.sparsity)} as fast as {gain.dense.curve}"
    if gain.dense_torch and gain.both and gain.dense_implementation:
        text += f". Against {gain.dense_torch.curve}, step by step in torch, it is {_factor(gain.both)} as fast"
        text += f"; {_factor(gain.dense_implementation)} of this is the implementation of {gain.dense_model}"
    return f"{text}."


def _factor(factor: Factor) -> str:
    return f"{format_number(factor.value)}x [{format_number(factor.low)}, {format_number(factor.high)}]"


def coverage(analysis: Analysis) -> str:
    """State how many cases were measured, how well their medians are known, and how many have a warning."""
    frame = analysis.frame
    measured = frame[frame["status"] == "ok"]
    failed, total, warned = len(frame) - len(measured), len(frame), int((measured["warnings"] != "").sum())
    text = f"{total - failed} of {total} cases were measured" + (f"; {failed} were not, for the reasons below." if failed else ".")
    half_width = ((measured["step_ms_ci_high"] - measured["step_ms_ci_low"]) / 2 / measured["step_ms_median"]).dropna()
    if len(half_width):
        half, most = half_width.quantile((0.5, 0.9))
        text += f" Half of the median times are known to ±{half:.1%} or better, nine in ten to ±{most:.1%}."
    if warned:
        text += (
            f" {warned} {'case has a warning' if warned == 1 else 'cases have warnings'}: a ring in the plots, and the last column of the"
        )
        text += " table of cases."
    return text


def _by_order(analysis: Analysis, setting: str, quantity: Quantity, about: str) -> str:
    """`The time a step takes does not grow with N for sam (O(log N) fits as well); it grows as O(N) for ntm, dam; ...`."""
    fits = {curve: fit for (fit_setting, curve), fit in analysis.fits[quantity.key].items() if fit_setting == setting}
    zero = ", ".join(curve for curve, fit in fits.items() if fit.is_zero)
    groups = [f"is 0 at every N for {zero}"] if zero else []
    for order in ORDERS:
        curves = ", ".join(_with_doubts(curve, fit) for curve, fit in fits.items() if fit.order == order and not fit.is_zero)
        if curves:
            groups.append(f"does not grow with N for {curves}" if order == "O(1)" else f"grows as {order} for {curves}")
    return f"{about} {'; it '.join(groups)}." if groups else ""


def _with_doubts(curve: str, growth: Growth) -> str:
    return f"{curve} ({'; '.join(growth.doubts)})" if growth.doubts else curve


def format_rate(growth: Growth, quantity: Quantity) -> str:
    """Format the coefficient of the leading term: `304 B a slot`, `0.53 µs a slot`; of O(1), the value itself."""
    leading = growth.coefficients[-1]
    amount = format_bytes(leading) if quantity.is_bytes else _duration(leading)
    return amount if growth.order == "O(1)" else f"{amount} {PER_UNIT[growth.order]}"


def _duration(ms: float) -> str:
    for unit, factor in (("ms", 1.0), ("µs", 1e3), ("ns", 1e6)):
        if ms * factor >= 0.1:
            return f"{ms * factor:.3g} {unit}"
    return f"{ms * 1e9:.3g} ps"


def _against_twins(analysis: Analysis, setting: str) -> list[str]:
    """Compare each curve with each model among its twins, at the largest N that both ran at."""
    lines = []
    crossovers = {(c.subject, c.twin): c for c in analysis.crossovers if c.setting == setting}
    pairs: dict[tuple[str, str], list[Ratio]] = {}
    for ratio in analysis.ratios:
        if ratio.setting == setting:
            pairs.setdefault((ratio.subject, ratio.twin_model), []).append(ratio)
    for (subject, model), of_pair in pairs.items():
        largest = max(r.slots for r in of_pair)
        at_largest = sorted((r for r in of_pair if r.slots == largest), key=lambda r: r.speedup)
        plain = next((r for r in at_largest if r.twin.split(" ")[0] == model), at_largest[0])
        text = f"At N = {format_slots(largest)}, the largest both ran at, {subject} is {_times(plain)}"
        if at_largest[0] is not plain:
            text += f", and {_times(at_largest[0])}, the fastest of its variants"
        crossing = crossovers.get((subject, plain.twin))
        if crossing is not None and 0 < crossing.slots < float("inf"):
            text += f". It is faster than {plain.twin} {crossing.text}"
        lines.append(f"{text}.")
    return lines


def _times(ratio: Ratio) -> str:
    if ratio.tape_ratio is not None:
        memory = f" and takes {format_number(ratio.tape_ratio)}x less memory a step"
    else:
        own, twin = map(format_bytes, ratio.tape_bytes)
        memory = f" and keeps {own} a step, {f'as {ratio.twin} does' if own == twin else f'{ratio.twin} {twin}'}"
    interval = f"[{format_number(ratio.speedup_low)}, {format_number(ratio.speedup_high)}]"
    return f"{format_number(ratio.speedup)}x {interval} as fast as {ratio.twin}{memory}"
