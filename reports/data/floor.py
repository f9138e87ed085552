"""How near a dense model is to its floor, in words."""

import pandas as pd

from mann_bench.reports.data.frame import Row


def floor_text(row: "pd.Series | Row") -> str:
    """State the share of the copy rate that a case of the frame reaches with the bytes it cannot avoid moving, or why there is none.

    Returns:
        Nothing for a case of which no floor is known.
    """
    share = float(row["floor_share"])
    if share == share:
        return f"{share:.0%} of the copy rate" if share <= 1 else "above the copy rate: a cache serves a part"
    if row["fits_cache"]:
        return "its memory fits the cache, so that it need not move"
    return "" if row["floor_bytes"] != row["floor_bytes"] else "not known: there was no room for copies"
