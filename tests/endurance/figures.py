"""Write the counts of the last long trials into docs/reliability.md: `python -m tests.endurance.figures`."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
COUNTS = ROOT / "docs" / "results" / "endurance"
BEGIN, END = "<!-- figures of the long trials: python -m tests.endurance.figures -->", "<!-- end of the figures -->"


def tables(folder: Path = COUNTS) -> str:
    """One Markdown table for each file of counts: a row for each count, the file's groups in order."""
    parts = []
    for path in sorted(folder.glob("*.json")):
        counts = json.loads(path.read_text())
        single = {"all": {name: count for name, count in counts.items() if not isinstance(count, dict)}}
        groups = single | {name: group for name, group in counts.items() if isinstance(group, dict)}
        rows = [f"| {group} | {name} | {count:,} |" for group, counts in groups.items() for name, count in counts.items()]
        parts.append("\n".join([f"`{path.name}`", "", "| trial | what | count |", "|---|---|---:|", *rows]))
    return "\n\n".join(parts)


def filled(page: str) -> str:
    """The page with the tables between its two markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
