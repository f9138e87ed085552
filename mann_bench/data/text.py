"""Text of others (names, reasons, what a model printed) made safe to show on a terminal and in files."""

SHOWN_CHARACTERS = 500  # of a reason on a terminal
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would run


def visible(text: str) -> str:
    r"""Return the text with each character that is not printable, such as a terminal's escape, as an escape sequence (`\x1b`)."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode() for letter in text)


def one_line(text: str) -> str:
    """Return the text as one visible line."""
    return visible(" ".join(text.split()))


def shortened(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """Return the text as one visible line, cut after `most` characters."""
    rest = len(text) - most
    return one_line(text) if rest <= 0 else f"{one_line(text[:most])}... ({rest:,} more characters)"


def defused(text: str) -> str:
    """Return the text of a table's cell, with an apostrophe before it if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
