"""How curves are told apart in every plot and chart: colours by model, dashes by variant. Nothing that draws is imported."""

import pandas as pd

# Dark on white. Any two are at least 20 CIE units apart for normal, red-blind and green-blind readers (seaborn's palette: 13).
COLORS = {
    "lstm": "#8a8a8a", "ntm": "#d1490c", "dam": "#006b4a", "dnc": "#4a1008", "sam": "#0a6bcc", "sdnc": "#080859",
    "sdm": "#644b7d", "pkm": "#0000fa", "deltanet": "#4bafe1",
}  # fmt: skip
PALEST = {
    "lstm": "#f1f1f1", "ntm": "#f3f0f0", "dam": "#eaf3ee", "dnc": "#f3f0f0", "sam": "#f0f1f3", "sdnc": "#f0f0f3",
    "sdm": "#f2f1f3", "pkm": "#f0f0f3", "deltanet": "#eef2f4",
}  # fmt: skip  # seaborn's
OTHER_COLORS = ("#7a1fa2", "#8c8c0e", "#a01a6b", "#333333")  # for a user's models
INK, FAINT = "#1c1c1c", "#666666"
DASHES = {"plain": "-", "checkpointed": "--", "native-checkpointed": "-..", "compiled": ":", "graph": "-."}


def colors_of(frame: pd.DataFrame) -> dict[str, str]:
    """Choose the colour of each curve, the same in every plot of a report.

    A built-in model has its own colour. Its variants share it and differ in dashes; its options, indexes and kernels, and the same model
    in several runs, have shades of it. Everything else has a colour by its place among all that is no built-in.
    """
    names = frame.drop_duplicates("curve")
    colors: dict[str, str] = {}
    others = names[~names["model"].isin(list(COLORS))]
    keys = list(dict.fromkeys(_kind_of_color(row) for _, row in others.iterrows()))
    palette = OTHER_COLORS if len(keys) <= len(OTHER_COLORS) else _hues(len(keys))
    for _, row in others.iterrows():
        colors[str(row["curve"])] = palette[keys.index(_kind_of_color(row))]
    for model, rows in names[names["model"].isin(list(COLORS))].groupby("model", sort=False):
        keys = list(dict.fromkeys(_kind_of_color(row) for _, row in rows.iterrows()))
        for _, row in rows.iterrows():
            colors[str(row["curve"])] = shade_of(str(model), keys.index(_kind_of_color(row)), len(keys))
    return colors


def color_of(model: str, number: int) -> str:
    """Return the model's colour, the same in every plot; a user's model gets one by its number in the plot."""
    return COLORS.get(model, OTHER_COLORS[number % len(OTHER_COLORS)])


def shade_of(model: str, place: int, count: int) -> str:
    """Return one of `count` shades of a built-in model's colour, from the darkest on."""
    return _mixed(COLORS[model], PALEST[model], place / (count + 1))


def _kind_of_color(row: pd.Series) -> tuple[str, ...]:
    return str(row["model"]), str(row["options"]), str(row["kernels"]), str(row["index"]), str(row["run"])


def _hues(count: int) -> tuple[str, ...]:
    import seaborn

    return tuple(seaborn.husl_palette(count, l=0.45).as_hex())


def _mixed(color: str, other: str, share: float) -> str:
    """A colour with so much of another in it, from 0 to 1."""
    parts = ((int(color[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(own + share * (its - own)):02x}" for own, its in parts)
