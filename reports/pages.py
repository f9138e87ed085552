"""Write the pages of run folders: measurements, training runs, profiles, or all of them.

What only some folders need is imported where it is used: training runs take scipy.stats, checkpoints and profiles take torch.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mann_bench.data.errors import UsageError
from mann_bench.learn.record import LEARNING
from mann_bench.reports.claims.display import claims_table
from mann_bench.reports.claims.judge import judge_claims
from mann_bench.reports.claims.page import write_claims_page
from mann_bench.reports.html.page import Link
from mann_bench.reports.html.plot_files import NO_FILES, PlotFiles
from mann_bench.reports.learning.experiments import Experiment, load_experiments
from mann_bench.reports.profile.folders import folders_of
from mann_bench.reports.scaling.analysis import analyse
from mann_bench.reports.scaling.page import write_scaling_page

if TYPE_CHECKING:
    from mann_bench.measure.profile import Profile

TIMING, LEARNED = Link("Time and memory", "report.html"), Link("Learning", "learning.html")
CLAIMS, PROFILED = Link("Claims as charts", "claims.html"), Link("Profiles", "profile.html")


def write_reports(runs: Sequence[Path], out: Path, baseline: str = "", x: str = "", files: PlotFiles = NO_FILES) -> list[Path]:
    """Write the pages of profiles, of measurements and of training runs, where the folders hold any; return the paths.

    Args:
        baseline: the curve that all others are compared with; each with its dense twin without one.
        x: the field on the x axis of plots of measurements; see `find_axis`.
        files: which static plots are written.

    Raises:
        UsageError: a folder cannot be read, or no folder holds what an argument is about.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(out))  # which `mkdir` would call "File exists"
    profiled = [folder for run in runs for folder in folders_of(run)]
    runs = [run for run in runs if not folders_of(run) or (run / "run.json").is_file()]
    measured, trained = split_runs(runs)
    _check_meant(measured, trained, baseline, x, files)
    profiles = _load_profiles(profiled) if profiled else {}
    experiments = load_experiments(trained) if trained else []
    analysis = analyse(measured, baseline) if measured else None
    verdicts = judge_claims(analysis.frame if analysis else None, experiments) if runs else []
    has_claims = any(verdict.verdict != "not run" for verdict in verdicts)
    links = [*([TIMING] if measured else []), *([LEARNED] if trained else []), *([CLAIMS] if has_claims else [])]
    links += [PROFILED] if profiles else []

    def others(page: Link) -> list[Link]:
        return [link for link in links if link != page]

    pages = [_write_profiles(profiles, out, others(PROFILED))] if profiles else []
    if analysis is not None:
        pages.append(write_scaling_page(analysis, measured, out, [claims_table(verdicts)], others(TIMING), x, files))
    if trained:
        pages.append(_write_learning(experiments, trained, out, others(LEARNED), files))
    if has_claims:
        pages.append(write_claims_page(verdicts, runs, out, others(CLAIMS)))
    return pages


def write_report(
    runs: Sequence[Path],
    out: Path,
    experiments: Sequence[Experiment] = (),
    baseline: str = "",
    x: str = "",
    files: PlotFiles = NO_FILES,
) -> Path:
    """Write report.html, report.md, results.csv and plots/ from measurements; return the path of the HTML page.

    Args:
        experiments: training runs, by which the claims about learning are judged.
        baseline: the curve that all others are compared with.
        x: the field on the x axis of plots; see `find_axis`.
        files: which static plots are written.
    """
    analysis = analyse(runs, baseline)
    return write_scaling_page(analysis, runs, out, [claims_table(judge_claims(analysis.frame, experiments))], x=x, files=files)


def write_learning_report(
    runs: Sequence[Path], out: Path, experiments: Sequence[Experiment] | None = None, files: PlotFiles = NO_FILES
) -> Path:
    """Write learning.html, learning.md, CSV files and plots/ from training runs; return the path of the HTML page.

    Args:
        experiments: those of the runs, if they are loaded already.
        files: which static plots are written.
    """
    return _write_learning(load_experiments(runs) if experiments is None else experiments, runs, out, (), files)


def split_runs(runs: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the folders of measurements and those of training runs.

    A folder that holds both is in both lists. One that holds neither counts as measurements, so that loading it raises the error.

    Raises:
        UsageError: a folder is named twice; each of its cases would count twice.
    """
    places = [run.resolve() for run in runs]
    for number, run in enumerate(runs):
        if places[number] in places[:number]:
            raise UsageError(f"{run}: expected each run once, got this one twice; leave the second out")
    trained = [run for run in runs if (run / LEARNING.file).is_file()]
    return [run for run in runs if run not in trained or (run / "results.jsonl").is_file()], trained


def _check_meant(measured: Sequence[Path], trained: Sequence[Path], baseline: str, x: str, files: PlotFiles) -> None:
    """Refuse options that would do nothing for these folders."""
    of_measurements = {
        "--baseline": baseline,
        "--x": x,
        "--columns": files.columns != PlotFiles().columns,
        "--format tex": "tex" in files.formats,
    }
    given = [name for name, value in of_measurements.items() if value]
    if given and not measured:
        raise UsageError(
            f"{', '.join(given)}: expected a folder with measurements (`mann-bench run`), which alone this is about, got "
            f"{'training runs' if trained else 'profiles'} only; leave it out"
        )
    if files.formats and not (measured or trained):
        raise UsageError(
            "--format: expected a folder with measurements or training runs, got profiles only, whose charts save PNG and SVG from "
            "the menu at their corner; leave it out"
        )


def _load_profiles(folders: Sequence[Path]) -> "dict[str, Profile]":
    from mann_bench.reports.profile.profiles import load_profiles

    return load_profiles(folders)


def _write_profiles(profiles: "dict[str, Profile]", out: Path, links: Sequence[Link]) -> Path:
    from mann_bench.reports.profile.page import write_profiles_page

    return write_profiles_page(profiles, out, links=links)


def _write_learning(experiments: Sequence[Experiment], runs: Sequence[Path], out: Path, links: Sequence[Link], files: PlotFiles) -> Path:
    from mann_bench.reports.learning.page import write_learning_page

    return write_learning_page(experiments, runs, out, links, files)
