"""Tables of a terminal: no lines, so that 80 columns hold as much as they can."""

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table


def print_rows(output: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], spare: Collection[str] = ()) -> None:
    """Print rows under their heads. A gap between columns is two characters where that fits, else one; then long cells are wrapped.

    Args:
        spare: heads of the columns that are left out where the table is wider than the terminal.
    """

    def width(gap: int) -> int:
        return sum(max(map(len, column)) + gap for column in zip(heads, *rows, strict=True)) - gap

    if width(1) > output.width and (kept := [place for place, head in enumerate(heads) if head not in spare]) != [*range(len(heads))]:
        print_rows(output, [heads[place] for place in kept], [[row[place] for place in kept] for row in rows])
        return
    table = Table(*heads, box=None, padding=0, pad_edge=False, collapse_padding=True)
    table.padding = (0, 2 if width(2) <= output.width else 1, 0, 0)
    for row in rows:
        table.add_row(*row)
    output.print(table)
