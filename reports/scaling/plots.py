"""Plots: log-log curves against N that read alone, in print and for the colour-blind; SVG with the same bytes for the same results.

Every point of a curve is a link to its case in the page's table.
"""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mann_bench.data.units import format_bytes, format_slots, format_times
from mann_bench.reports.analysis.scaling import Scaling
from mann_bench.reports.data.quantity import Quantity
from mann_bench.reports.html.plots import DASHES, STYLE, End, blank, color_of, mark, name_ends, ticks


def against_slots(axes: Axes) -> None:
    """Both axes logarithmic, N in binary sizes."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("memory slots N")
    axes.xaxis.set_major_locator(LogLocator(base=4, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_slots(int(value)) if value >= 1 else ""))


def draw(frame: pd.DataFrame, quantity: Quantity, fits: dict[tuple[str, str], Scaling], setting: str) -> Figure:
    """One quantity of one setting: curves with their 95% interval, each named at its end with its exponent there."""
    figure, axes = blank(quantity.title, setting)
    with matplotlib.rc_context(STYLE):
        against_slots(axes)
        part = frame[(frame["setting"] == setting) & (frame["status"] == "ok") & (frame[quantity.column] > 0)]
        ends = []
        for number, (name, curve) in enumerate(part.groupby("curve", sort=False)):
            curve = curve.sort_values("slots")
            color = color_of(str(curve["model"].iloc[0]), number)
            dashes = DASHES.get(str(curve["variant"].iloc[0]), "-.")
            axes.plot(curve["slots"], curve[quantity.column], dashes, color=color, linewidth=1.6)
            mark(axes, curve["slots"], curve[quantity.column], color, number, curve["case_id"])
            if quantity.low and quantity.high:
                axes.fill_between(curve["slots"], curve[quantity.low], curve[quantity.high], color=color, alpha=0.25, linewidth=0)
            fit = fits.get((setting, str(name)))
            text = f"{name}  {power(fit.exponent.value)}" if fit else str(name)
            ends.append(End(float(curve["slots"].iloc[-1]), float(curve[quantity.column].iloc[-1]), text, color))
        name_ends(axes, ends)
        axes.set_ylabel(quantity.axis)
        ticks(axes, 4 if quantity.is_bytes else 10)  # 64 KiB, 256 KiB, 1 MiB: no 977 KiB
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value) if quantity.is_bytes else format_times(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    return figure


def power(exponent: float) -> str:
    """`N^0.98`; a zero has no sign."""
    return f"N^{exponent:.2f}".replace("-0.00", "0.00")
