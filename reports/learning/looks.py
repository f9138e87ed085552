"""How the curves of training runs look, the same in static plots and interactive charts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mann_bench.reports.html.colors import COLORS, FAINT, color_of, shade_of
from mann_bench.reports.learning.experiments import Curve, Experiment

if TYPE_CHECKING:
    import altair

LINES = ("-", "--", ":", "-.")  # for several curves of one model
VEGA_LINES = {"-": [1, 0], "--": [6, 3], ":": [2, 2], "-.": [6, 2, 2, 2]}
CHANCE_LINE = [4, 3]
MIN_LOSS = 1e-3  # bits; smaller losses are drawn here


def styled_curves(curves: Sequence[Curve]) -> Iterator[tuple[Curve, str, str]]:
    """Each curve with its colour and its line style. Curves of one built-in model have shades of its colour, and other styles."""
    counts, seen = Counter(curve.case.model for curve in curves), Counter[str]()
    for number, curve in enumerate(curves):
        model = curve.case.model
        place = seen[model]
        color = shade_of(model, place, counts[model]) if model in COLORS else color_of(model, number)
        yield curve, color, LINES[place % len(LINES)]
        seen[model] += 1


def vega_looks(experiment: Experiment, *, chance: bool = False) -> "tuple[list[str], altair.Color, altair.StrokeDash]":
    """Names, colours and dashes of the curves, and with `chance` those of the best guess that saw nothing."""
    import altair

    looks = [(curve.name, color, VEGA_LINES[line]) for curve, color, line in styled_curves(experiment.curves) if curve.trained]
    names = [name for name, _, _ in looks]
    looks += [("chance", FAINT, CHANCE_LINE)] if chance and "chance" not in names else []
    domain, colors, dashes = [look[0] for look in looks], [look[1] for look in looks], [look[2] for look in looks]
    color = altair.Color("curve:N", scale=altair.Scale(domain=domain, range=colors), title=None)
    return names, color, altair.StrokeDash("curve:N", scale=altair.Scale(domain=domain, range=dashes), title=None)
