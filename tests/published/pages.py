"""Whether the committed Markdown pages are what the code makes of the data, and whether the site of all runs can be made.

python -m tests.published.pages [HISTORY]      prints what differs; HISTORY is a folder of asv's results for the site

Plots are named and not drawn: the pages are the same, and take a fraction of the time.
"""

import difflib
import sys
import tempfile
from pathlib import Path

from mann_bench.reports.html.plot_files import PlotFiles
from mann_bench.reports.site import write_site
from tests.published.results import RESULTS

FILES = PlotFiles(("png",), drawn=False)  # of `make pages`


def differences(committed: Path, made: Path) -> list[str]:
    """Compare the Markdown pages of all runs in a folder with those of a site of it; return the lines that differ."""
    found: list[str] = []
    for page in sorted(committed.glob("*/report/*.md")):
        new = made / page.parent.parent.name / page.name
        if not new.is_file():
            found.append(f"{page}: the site has no such page")
            continue
        before, after = (path.read_text(encoding="utf-8").splitlines() for path in (page, new))
        found += difflib.unified_diff(before, after, str(page), "as the code makes it", lineterm="", n=0)
    return found


def main() -> None:
    """Run as a program; ends with 1 if a page differs, or a run of the site has none."""
    history = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as folder:
        _, runs = write_site(RESULTS, Path(folder), history, FILES)
        found = [*(f"{run.folder}: {run.error}" for run in runs if run.error), *differences(RESULTS, Path(folder))]
    print("\n".join(found) or f"pages: {len(runs)} runs, all as the code makes them")
    if found:
        sys.exit("expected the pages as the code makes them: make pages")


if __name__ == "__main__":
    main()
