"""What a reader should take away, in sentences: who scales how, from where on, and how far."""

from mann_bench.data.units import format_bytes, format_slots, format_times
from mann_bench.reports.analysis.ratios import Ratio
from mann_bench.reports.analysis.scaling import ORDERS, Growth
from mann_bench.reports.data.quantity import TAPE, TIME, Quantity
from mann_bench.reports.scaling.findings import Findings

PER = {"O(log N)": "a doubling", "O(N)": "a slot", "O(N^2)": "a pair of slots"}


def verdicts(findings: Findings) -> dict[str, list[str]]:
    """Sentences by setting."""
    said = {}
    for setting in findings.settings:
        grows = [
            _by_order(findings, setting, TAPE, "The memory each further step takes"),
            _by_order(findings, setting, TIME, "The time a step takes"),
        ]
        said[setting] = [sentence for sentence in [*grows, *_against_twins(findings, setting)] if sentence]
    return said


def coverage(findings: Findings) -> str:
    """How much was measured."""
    bad, total = int((findings.frame["status"] != "ok").sum()), len(findings.frame)
    return f"{total - bad} of {total} cases were measured" + (f"; {bad} were not, for the reasons below." if bad else ".")


def _by_order(findings: Findings, setting: str, quantity: Quantity, about: str) -> str:
    """`The time a step takes does not grow with N for sam; it grows as O(N) for ntm, dam; ...`."""
    orders = {curve: fit.growth.order for (where, curve), fit in findings.fits[quantity.key].items() if where == setting}
    groups = []
    for order in ORDERS:
        curves = ", ".join(curve for curve, of_curve in orders.items() if of_curve == order)
        if curves:
            groups.append(f"does not grow with N for {curves}" if order == "O(1)" else f"grows as {order} for {curves}")
    return f"{about} {'; it '.join(groups)}." if groups else ""


def rate(growth: Growth, quantity: Quantity) -> str:
    """What the leading term costs: `304 B a slot`, `0.53 us a slot`; a constant as it is."""
    leading = growth.coefficients[-1]
    amount = format_bytes(leading) if quantity.is_bytes else _duration(leading)
    return amount if growth.order == "O(1)" else f"{amount} {PER[growth.order]}"


def _duration(ms: float) -> str:
    for unit, factor in (("ms", 1.0), ("µs", 1e3), ("ns", 1e6)):
        if ms * factor >= 0.1:
            return f"{ms * factor:.3g} {unit}"
    return f"{ms * 1e9:.3g} ps"


def _against_twins(findings: Findings, setting: str) -> list[str]:
    """One for each curve and model it is held against, at the largest N that both ran at."""
    said = []
    pairs = [r for r in findings.ratios if r.setting == setting]
    for subject, model in dict.fromkeys((r.subject, r.twin_model) for r in pairs):
        of_pair = [r for r in pairs if (r.subject, r.twin_model) == (subject, model)]
        largest = max(r.slots for r in of_pair)
        at = sorted((r for r in of_pair if r.slots == largest), key=lambda r: r.speedup)
        plain = next((r for r in at if r.twin.split(" ")[0] == model), at[0])
        text = f"At N = {format_slots(largest)}, the largest both ran at, {subject} is {_times(plain)}"
        if at[0] is not plain:
            text += f", and {_times(at[0])}, the fastest of its variants"
        crossing = [c for c in findings.crossovers if (c.setting, c.subject, c.twin) == (setting, subject, plain.twin)]
        said.append(
            text + (f". It is faster than {plain.twin} {crossing[0].words}." if crossing and 0 < crossing[0].slots < float("inf") else ".")
        )
    return said


def _times(ratio: Ratio) -> str:
    memory = f" and takes {format_times(ratio.tape_ratio)}x less memory a step" if ratio.tape_ratio > 0 else ""
    interval = f"[{format_times(ratio.speedup_low)}, {format_times(ratio.speedup_high)}]"
    return f"{format_times(ratio.speedup)}x {interval} as fast as {ratio.twin}{memory}"
