"""Write the static plots of the scaling report, in the formats asked for: PNG for Markdown, SVG, PDF and LaTeX tables for papers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd

from mann_bench.data.errors import UsageError
from mann_bench.data.files import write_atomically
from mann_bench.reports.html.panels import STYLE_OF_PANELS, WIDTHS, Axis, Multiples, Panel, draw
from mann_bench.reports.html.plots import svg_element, to_svg

FORMATS = ("png", "svg", "pdf", "tex")
UNDATED: dict[str, dict[str, None]] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


@dataclass(frozen=True)
class PlotFiles:
    """Which static plots are written: `formats` of `FORMATS`, as wide as so many `columns` of a paper.

    Raises:
        UsageError: a format or a width that there is not.
    """

    formats: tuple[str, ...] = ("png", "svg")
    columns: int = 2

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise UsageError(f"--format: expected some of {', '.join(FORMATS)}, as png,pdf; got {', '.join(unknown) or 'none'}")
        if self.columns not in WIDTHS:
            raise UsageError(f"--columns: expected 1 or 2, the columns of a paper that a plot is as wide as; got {self.columns}")


def write_figures(figures: Iterable[Multiples], out: Path, files: PlotFiles, inline: bool) -> list[dict[str, str]]:
    """Write `out/plots/KEY.FORMAT` of each figure.

    Args:
        inline: whether the page shows the plots, as it does without interactive charts.

    Returns:
        For the templates, of each figure: title, the `svg` element if it is inline, and `file`, the one that Markdown shows or links to.
    """
    (out / "plots").mkdir(parents=True, exist_ok=True)
    shown = []
    for figure in figures:
        stem = out / "plots" / figure.key
        drawn = draw(figure, files.columns)
        svg = to_svg(drawn) if inline or "svg" in files.formats else ""
        for name in files.formats:
            if name == "svg":
                write_atomically(stem.with_suffix(".svg"), svg)
            elif name == "tex":
                write_atomically(stem.with_suffix(".tex"), to_latex(figure))
            else:
                with matplotlib.rc_context(STYLE_OF_PANELS):
                    drawn.savefig(stem.with_suffix(f".{name}"), metadata=UNDATED[name])
        best = next(name for name in FORMATS if name in files.formats)
        title = f"{figure.title}, {figure.subtitle}"
        is_image = "yes" if best in ("png", "svg") else ""
        shown.append(
            {"title": title, "svg": svg_element(svg) if inline else "", "file": f"plots/{figure.key}.{best}", "is_image": is_image}
        )
    return shown


def to_latex(figure: Multiples) -> str:
    """Return the numbers of a figure as a table: a row a curve, a column a value of x, a block a panel. It needs the package booktabs.

    Of points that no line joins, a row is a point. The ends of a 95% interval stand above and below a value.
    """
    sizes = sorted({float(x) for panel in figure.panels for x in panel.rows["x"]}) if figure.joined else []
    heads = [figure.x.text(x) for x in sizes] if sizes else [figure.x.title, figure.y.title]
    lines = [
        f"% {figure.title}, {figure.subtitle}: {figure.y.title}. {figure.note}".rstrip().translate({10: " "}),
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
    return text.translate(ESCAPES)
