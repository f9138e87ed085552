"""The static plots of the scaling report as files: drawn at the width asked for, and as tables for LaTeX."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from mann_bench.reports.html.panel_data import Axis, Multiples, Panel
from mann_bench.reports.html.plot_files import Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"}  # others in TeX's first font
    | {"[": "{[}", "*": "{*}"}  # after a line's end an argument
)
LAST_LETTER = "\u017f"  # of the alphabets that LaTeX's default font has


def plots_of(figures: Iterable[Multiples], columns: int) -> Iterator[Plot]:
    """Yield each figure as a plot that can be drawn, as wide as so many columns of a paper."""
    for figure in figures:
        title = f"{figure.title}, {figure.subtitle}"
        yield Plot(figure.key, title, partial(_draw, figure, columns), _style, partial(to_latex, figure))


def _draw(figure: Multiples, columns: int) -> "Figure":
    from mann_bench.reports.html.panels import draw

    return draw(figure, columns)


def _style() -> AbstractContextManager[None]:
    import matplotlib

    from mann_bench.reports.html.panels import STYLE_OF_PANELS

    return matplotlib.rc_context(STYLE_OF_PANELS)


def to_latex(figure: Multiples) -> str:
    """Return the numbers of a figure as a table: a row a curve, a column a value of x, a block a panel. It needs the package booktabs.

    Of points that no line joins, a row is a point. The ends of a 95% interval stand above and below a value.
    """
    sizes = sorted({float(x) for panel in figure.panels for x in panel.rows["x"]}) if figure.joined else []
    heads = [figure.x.text(x) for x in sizes] if sizes else [figure.x.title, figure.y.title]
    lines = [
        " ".join(f"% {figure.title}, {figure.subtitle}: {figure.y.title}. {figure.note}".split()),
        f"\\begin{{tabular}}{{l{'r' * len(heads)}}}",
        "\\toprule",
        _row([figure.x.title if sizes else "", *heads]),
    ]
    for panel in figure.panels:
        lines += ["\\midrule", *([_wide(panel.title, len(heads) + 1)] if panel.title else []), *_rows(panel, figure, sizes)]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _rows(panel: Panel, figure: Multiples, sizes: Sequence[float]) -> Iterable[str]:
    for name, curve in panel.rows.groupby("curve", sort=False):
        look = panel.looks[str(name)]
        label = f"{look.name} {look.remark}" if look.remark.startswith("against ") else look.name
        if sizes:
            points = {float(point["x"]): point for _, point in curve.iterrows()}
            yield _row([label, *(_value(points[x], figure.y) if x in points else "" for x in sizes)], escaped=1)
        else:
            for _, point in curve.iterrows():
                yield _row([label, _escape(figure.x.text(point["x"])), _value(point, figure.y)], escaped=1)


def _value(point: pd.Series, axis: Axis) -> str:
    low, value, high = (_escape(axis.text(float(point[name]))) for name in ("low", "y", "high"))
    if low == high:
        return value
    low, value, high = (text.replace(",", "{,}") for text in (low, value, high))  # no space after the comma
    return f"${{{value}}}_{{{low}}}^{{{high}}}$"


def _row(cells: Sequence[str], escaped: int | None = None) -> str:
    """A row of the table; cells from the number `escaped` on are LaTeX already."""
    limit = len(cells) if escaped is None else escaped
    return " & ".join([*map(_escape, cells[:limit]), *cells[limit:]]) + r" \\"


def _wide(text: str, columns: int) -> str:
    return f"\\multicolumn{{{columns}}}{{l}}{{\\emph{{{_escape(text)}}}}} \\\\"


def _escape(text: str) -> str:
    """A text as LaTeX shows it with any engine; letters that its default font lacks by their number."""
    known = (character if character.isprintable() and character <= LAST_LETTER else f"U+{ord(character):04X}" for character in text)
    return "".join(known).translate(ESCAPES)
