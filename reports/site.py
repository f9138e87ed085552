"""A site of all runs in a folder: an index by machine, suite and date, the pages of each run, pages that join machines, the history."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from mann_bench.data.errors import UsageError
from mann_bench.data.files import write_atomically
from mann_bench.data.store import RESULTS, iter_records, load_run
from mann_bench.data.text import one_line, shortened
from mann_bench.learn.record import LEARNING
from mann_bench.reports.html.interactive import can_draw
from mann_bench.reports.html.page import write_page
from mann_bench.reports.html.plot_files import NO_FILES, PlotFiles
from mann_bench.reports.html.table import LONG, Cell, Column, Table
from mann_bench.reports.pages import write_report, write_reports
from mann_bench.reports.profile.folders import FILE as PROFILE
from mann_bench.reports.profile.folders import folders_of

KINDS = {"report": "time and memory"}  # what a page is about, by its stem, where that does not say it
ELSEWHERE = "<!-- elsewhere -->"  # in every page: where a site links other pages


class Page(NamedTuple):
    """A page to be linked: its title, and its path from the index."""

    title: str
    path: str


class Run(NamedTuple):
    """A run of the site; `error` says why it has no pages."""

    folder: Path
    machine: str
    what: str
    started_at: str
    records: int
    pages: list[Page]
    error: str = ""


def write_site(root: Path, out: Path, history: Path | None = None, files: PlotFiles = NO_FILES) -> tuple[Path, list[Run]]:
    """Write the pages of every run below a folder, and `index.html`; return its path and the runs.

    Args:
        history: a folder of asv's results, which become a page of their own.
        files: which static plots are written.

    A run whose records cannot be read is listed with the reason, and the others are written all the same.

    Raises:
        UsageError: there is no run below the folder, or no history in that folder.
    """
    folders = _folders(root)
    if not folders:
        raise UsageError(f"site: expected a folder with runs of `mann-bench run` or `learn`, found none below {root}")
    out.mkdir(parents=True, exist_ok=True)
    others = [Page("History over commits", _write_history(history, out))] if history else []
    runs = [_write_run(folder, root, out, files) for folder in folders]
    joined = [*_join_machines(runs, out)]
    _link_runs(runs, out)
    context = {"tables": [_index(runs), *([_joined(joined)] if joined else [])], "others": others, "environments": []}
    return write_page(out / "site.html", context).rename(out / "index.html"), runs


def _folders(root: Path) -> list[Path]:
    """The folders of runs and profiles below a folder; one with profiles of several models counts once."""
    found = {path.parent for name in (RESULTS.file, LEARNING.file) for path in root.rglob(name)}
    for profile in sorted(root.rglob(PROFILE)):
        alone = profile.parent
        several = alone.parent if alone != root and (alone.parent / "profile.html").is_file() else alone
        if alone not in found and several not in found:
            found.add(several)
    return sorted(found)


def _write_history(history: Path, out: Path) -> str:
    if not can_draw():
        raise UsageError(
            "--history: expected the packages altair and vl-convert-python, found not both; install them, or leave the option out"
        )
    from mann_bench.reports.history import write_history

    return str(write_history(history, out).relative_to(out))


def _write_run(folder: Path, root: Path, out: Path, files: PlotFiles) -> Run:
    place = folder.relative_to(root) if folder != root else Path(folder.resolve().name)
    kinds = [kind for kind in (RESULTS, LEARNING) if (folder / kind.file).is_file()]
    machine, what, started_at, records, pages, error = "unknown", "unknown", "", 0, [], ""
    try:
        profiled = folders_of(folder)
        if kinds:
            description = load_run(folder)
            environment = description.get("environment", {})
            machine = one_line(str(environment.get("cpu", "unknown")))
            if environment.get("gpus"):
                machine += f", {one_line(environment['gpus'][0]['name'])}"
            what = one_line(str(description.get("suite", "unknown")))
            started_at = one_line(str(description.get("started_at", "")))[:16].replace("T", " ")
        else:
            machine, what = _profiled_on(profiled), "profile"
            started_at = f"{datetime.fromtimestamp(max((place / PROFILE).stat().st_mtime for place in profiled), UTC):%Y-%m-%d %H:%M}"
        records = len(profiled) + sum(len(list(iter_records(folder, kind))) for kind in kinds)  # type: ignore[misc]  # of two types
        pages = [
            Page(path.stem, str(path.relative_to(out))) for path in write_reports([folder], out / place, files=files if kinds else NO_FILES)
        ]
    except (UsageError, OSError) as refusal:
        error = shortened(str(refusal), LONG)
    return Run(folder, machine, what, started_at, records, pages, error)


def _profiled_on(folders: Iterable[Path]) -> str:
    """The devices that profiles ran on."""
    from mann_bench.reports.profile.profiles import load_profiles

    return ", ".join(dict.fromkeys(one_line(profile.backend.device_name) for profile in load_profiles(folders).values()))


def _link_runs(runs: Sequence[Run], out: Path) -> None:
    """Write into each page where the index is, and the pages of the other runs of its machine: what it learns beside what it costs."""
    names = _short_names(runs)
    for run in runs:
        others = [other for other in runs if other is not run and other.machine == run.machine and other.pages]
        for page in run.pages:
            path, to_root = out / page.path, "../" * page.path.count("/")
            links = [f'<a href="{to_root}index.html">All runs</a>']
            links += [
                f'<a href="{to_root}{quote(each.path)}">{escape(_title(names[other.folder], each))}</a>'
                for other in others
                for each in other.pages[:1]
            ]
            shown = f'<p class="faint elsewhere">On this machine: {" ".join(links)}</p>' if len(links) > 1 else f"<p>{links[0]}</p>"
            write_atomically(path, path.read_text(encoding="utf-8").replace(ELSEWHERE, shown, 1))


def _title(name: str, page: Page) -> str:
    """`time and memory: quick`, `learning: copy`."""
    return f"{KINDS.get(page.title, page.title)}: {name.removeprefix(f'{page.title}-')}"


def _short_names(runs: Sequence[Run]) -> dict[Path, str]:
    """The names of the folders, without the end that all those of a machine share, as `-amd-epyc-2-threads`."""
    names: dict[Path, str] = {}
    for machine in dict.fromkeys(run.machine for run in runs):
        folders = [run.folder for run in runs if run.machine == machine]
        parts = [folder.resolve().name.split("-") for folder in folders]
        shared = 0
        while len(parts) > 1 and all(len(part) > shared + 1 for part in parts) and len({part[-1 - shared] for part in parts}) == 1:
            shared += 1
        names |= {folder: one_line("-".join(part[: len(part) - shared])) for folder, part in zip(folders, parts, strict=True)}
    return names


def _join_machines(runs: list[Run], out: Path) -> Iterable[tuple[str, list[Run], Page]]:
    """A page for each suite that several machines have run: the same cases of all of them."""
    suites: dict[str, list[Run]] = {}
    for run in runs:
        if not run.error and (run.folder / RESULTS.file).is_file():
            suites.setdefault(run.what, []).append(run)
    for suite, of_suite in suites.items():
        if len({run.machine for run in of_suite}) > 1:
            path = write_report([run.folder for run in of_suite], out / "machines" / suite)
            yield suite, of_suite, Page("all machines", str(path.relative_to(out)))


def _index(runs: list[Run]) -> Table:
    heads = (
        Column("machine"),
        Column("suite or task"),
        Column("started"),
        Column("records", True),
        Column("run"),
        Column("pages", wraps=True),
    )
    ordered = sorted(runs, key=lambda run: run.started_at, reverse=True)  # the newest first, by suite, by machine
    ordered.sort(key=lambda run: (run.machine, run.what))
    rows = tuple(
        (
            Cell(run.machine),
            Cell(run.what),
            Cell(run.started_at),
            Cell(f"{run.records:,}", run.records),
            Cell(one_line(run.folder.name)),
            Cell(run.error, links=tuple((page.title, page.path) for page in run.pages)),
        )
        for run in ordered
    )
    return Table("Runs", "By machine, suite and date. Click a heading to sort.", heads, rows)


def _joined(joined: list[tuple[str, list[Run], Page]]) -> Table:
    rows = tuple(
        (Cell(suite), Cell(", ".join(sorted({run.machine for run in runs}))), Cell("", links=((page.title, page.path),)))
        for suite, runs, page in joined
    )
    note = "The same cases on several machines, a shade a run. Absolute times; choose a curve to divide by."
    return Table("Machines side by side", note, (Column("suite"), Column("machines", wraps=True), Column("page")), rows)
