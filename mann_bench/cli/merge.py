"""`mann-bench merge`: join the folders of shards into one."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from mann_bench.cli.console import tell
from mann_bench.cli.options import AsJson
from mann_bench.data.errors import UsageError
from mann_bench.data.lines import RecordKind
from mann_bench.data.merge import Merged, merge
from mann_bench.data.store import RESULTS

Joined = Merged[Any]  # of results, or of training runs


def merge_(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="run folders: shards of one run, or parts made apart")],
    out: Annotated[Path, typer.Option(help="a new folder for all of them")],
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="join records of different torch, kernels, commits or budgets, too")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Join result folders into one that report, compare, claims and --resume take; each record keeps its host and environment.

    Numbers of different hosts are never compared with each other: a report has the curves of each host.
    """
    from mann_bench.learn.record import LEARNING

    kinds: dict[str, RecordKind[Any]] = {kind.file: kind for kind in (RESULTS, LEARNING)}
    here = {name for name in kinds for folder in folders if (folder / name).is_file()}
    if len(here) > 1:
        raise UsageError("merge: expected runs of one command, got some of `mann-bench run` and some of `learn`; merge them apart")
    merged = merge(folders, kinds[next(iter(here), RESULTS.file)], out, allow_different=allow_different)
    planned, missing = left_to_do(merged)
    for phrase in merged.differing:
        tell(f"warning: {phrase}")
    if merged.missing_shards:
        tell(f"note: shards that are not here: {', '.join(map(str, merged.missing_shards))}")
    if len(merged.hosts) > 1:
        tell(f"note: measured on {len(merged.hosts)} hosts ({', '.join(merged.hosts)}); numbers of different hosts are not compared")
    if as_json:
        counts = {"parts": len(folders), "records": len(merged.records), "planned": planned, "missing": missing}
        print(json.dumps({"out": str(out), **counts, "missing_shards": merged.missing_shards, "hosts": merged.hosts}))
        return
    print(f"{len(folders)} folders, {len(merged.records)} records, {missing} of {planned} to do")
    print(f"results: {out / (next(iter(here), RESULTS.file))}")
    print(f"next:    {next_command(merged, missing)}")


def left_to_do(merged: Joined) -> tuple[int, int]:
    """How many cases or runs the joined folder is for, as far as that is decided, and how many of them have no record."""
    done = {record.run_id for record in merged.records}
    description = merged.description
    wanted = set(description.get("run_ids") or description.get("case_ids", []))
    if "study" in description:
        choosing, reported = ids_of_study(merged)
        wanted = choosing | reported | done
    return len(wanted), len(wanted - done)


def ids_of_study(merged: Joined) -> tuple[set[str], set[str]]:
    """Ids of the runs of a study that choose, and of those that are reported as far as their choice is made."""
    from mann_bench.learn.record import furthest
    from mann_bench.learn.selection import StudyRecord, choose

    study = StudyRecord.model_validate(merged.description["study"])
    results = furthest(merged.records)
    choices = [choose(configuration, study.by, results) for configuration in study.configurations]
    choosing = {run_id for configuration in study.configurations for run_id in configuration.selection_ids}
    return choosing, {run_id for choice in choices if choice and not choice.failed for run_id in choice.best.candidate.reported}


def next_command(merged: Joined, missing: int) -> str:
    """What to call now."""
    folder = shlex.quote(str(merged.path))
    if not missing:
        return f"mann-bench report {folder}"
    if "study" in merged.description and ids_of_study(merged)[0] <= {record.run_id for record in merged.records}:
        study = shlex.quote(str(merged.description["study"].get("name")))
        return f"mann-bench learn {study} --shard N/COUNT --memory SIZE --chosen {folder} --out OTHER/N, or --out {folder} --resume"
    command = "learn" if merged.description.get("suite") == "learning" else "run"
    return f"the same `mann-bench {command}` without --shard, and: --out {folder} --resume; or merge the rest when it is there"
