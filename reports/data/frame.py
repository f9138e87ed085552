"""Stored results as a data frame: one row a case, flat columns, units in their names."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mann_bench.data.conditions import RunDescription, all_conditions
from mann_bench.data.errors import UsageError, did_you_mean
from mann_bench.data.files import write_atomically
from mann_bench.data.result import Result
from mann_bench.data.store import RESULTS, iter_records, load_run
from mann_bench.data.text import defused, one_line, visible
from mann_bench.data.units import format_slots
from mann_bench.measure.advice import advise

Row = Mapping[Hashable, Any]  # of a frame of results: a case

SETTING = {  # fields in the order of a setting's text, and their words there
    "mode": "{}",
    "device": "{}",
    "batch": "batch {}",
    "steps": "{} steps",
    "fill": "memory {}",
    "slots": "{} slots",
    "heads": "{} heads",
    "reads": "{} reads",
    "word_size": "word size {}",
    "hidden": "{} hidden units",
    "input_size": "{} inputs",
    "dtype": "{}",
    "threads": "{} threads",
    "seed": "seed {}",
}
EXACT_INDEXES = ("exact", "exact-scan", "live")  # searches that find every true neighbour


def load_frame(runs: Sequence[Path]) -> pd.DataFrame:
    """Load all results of the runs; UsageError naming file and line if one cannot be read.

    Column `run` names the run, and the host where the run has several, so that nothing pairs or fits numbers of two hosts; `curve` the line
    in a plot, `setting` what all curves of one plot have in common, `warnings` what is to be known before a number is believed.
    """
    named = list(zip(run_names(runs), runs, strict=True))
    frame = pd.DataFrame([_row(name, result) for name, run in named for result in iter_records(run, RESULTS)])
    frame["run"] = _with_hosts(frame)
    frame["curve"] = _short_names(frame)
    frame["setting"] = setting_texts(frame)
    return frame


class NamedRun(NamedTuple):
    """`run.json` of a run with one of its conditions, and the name that pages give it."""

    name: str
    description: RunDescription


def environments(runs: Sequence[Path]) -> list[NamedRun]:
    """Load `run.json` of each run; a run that went on under other conditions counts once for each."""
    loaded = []
    for name, run in zip(run_names(runs), runs, strict=True):
        description = load_run(run)
        for number, conditions in enumerate(all_conditions(description)):
            title = name if number == 0 else f"{name}, resumed {conditions.get('started_at', '')}".strip()
            if "merged" in description and "host" in conditions:
                title = f"{name} on {conditions['host']}, started {conditions.get('started_at', '')}"
            loaded.append(NamedRun(title, {**description, **conditions}))
    return loaded


def run_names(runs: Sequence[Path]) -> list[str]:
    """Return the names of the folders, or their whole paths if two have the same name."""
    names = [one_line(run.resolve().name) for run in runs]
    return names if len(set(names)) == len(names) else [one_line(str(run)) for run in runs]


def find_baseline(frame: pd.DataFrame, name: str) -> str:
    """Return the name if it is a curve's, without its run; UsageError with the names there are if not."""
    names = list(dict.fromkeys(map(without_run, frame["curve"])))
    if name and name not in names:
        raise UsageError(f"--baseline: expected one of {', '.join(names)}, got {name!r}{did_you_mean(name, names)}")
    return name


def without_run(curve: str) -> str:
    """`ntm @ laptop` -> `ntm`."""
    return curve.partition(" @ ")[0]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a data frame as CSV; no text in it can act as a formula of a spreadsheet."""
    texts = frame.map(lambda value: defused(value) if isinstance(value, str) else value)
    write_atomically(path, texts.to_csv(index=False))


def _row(run: str, result: Result) -> dict[str, object]:
    row: dict[str, object] = {"run": run, "case_id": result.case_id, "status": result.status, "reason": result.reason or ""}
    row |= {"host": result.host or "", "conditions": result.conditions, "comparison": result.comparison or ""}
    row |= {**result.case.model_dump(), "options": str(result.case.options)}
    backend, time, memory = result.backend, result.time, result.memory
    row |= {"ran_kernels": backend.kernels if backend else "", "device_name": backend.device_name if backend else ""}
    for name in ("median", "ci_low", "ci_high"):
        row[f"step_ms_{name}"] = getattr(time.step_ms, name) if time else float("nan")
    row["samples"] = time.pass_ms.count if time else 0
    for name in ("bytes_per_step", "peak_bytes", "start_bytes", "tape_bytes", "state_bytes", "rss_peak_bytes"):
        row[name] = float(getattr(memory, name)) if memory else float("nan")
    row["pass_bytes"] = float(memory.peak_bytes - memory.start_bytes) if memory else float("nan")
    row["recall"] = result.recall if result.recall is not None else float("nan")
    row |= _floor_columns(result)
    row["wall_s"] = result.wall_s
    row["warnings"] = ". ".join(advise(result))
    return {name: one_line(value) if isinstance(value, str) else value for name, value in row.items()} | {
        "output": visible(result.output or "")
    }


def _with_hosts(frame: pd.DataFrame) -> pd.Series:
    """The name of each row's run; `all on node1` where the run has results of several hosts, as `mann-bench merge` joins them."""
    several = frame.groupby("run")["host"].transform("nunique") > 1
    return frame["run"].where(~several, frame["run"] + " on " + frame["host"].where(frame["host"] != "", "an unknown host"))


def _floor_columns(result: Result) -> dict[str, object]:
    """What a step of a dense model cannot avoid moving, the rate of copies, and the share of it that the step reaches."""
    found, share = (result.floor, result.floor_share) if result.status == "ok" else (None, None)
    row: dict[str, object] = {"fits_cache": found is not None and found.fits_cache}
    row["floor_bytes"] = found.step_bytes if found else float("nan")
    row["copy_bytes_per_s"] = found.copy_bytes_per_s if found and found.copy_bytes_per_s else float("nan")
    return {**row, "floor_share": share if share is not None else float("nan")}


def _short_names(frame: pd.DataFrame) -> pd.Series:
    """Names that tell the curves of this frame apart: `sam`, `ntm-checkpointed`, `sam native lsh`, `sam erase=gated`.

    Options are always named: with them a model is another one. Kernels are named where those of one model differ, in one run or between
    runs: by what ran where a case left the choice to the model, as an older mann-bench chose otherwise.
    """
    names = frame["model"].where(frame["variant"] == "plain", frame["model"] + "-" + frame["variant"])
    names = names.where(frame["options"] == "", names + " " + frame["options"])
    kernels = _kernels(frame)
    varies = kernels.groupby([frame[name] for name in ("model", "variant", "index")]).transform("nunique") > 1
    names = names.where(~varies, names + " " + kernels)
    varies = frame.groupby("model")["index"].transform("nunique") > 1
    names = names.where(~varies, names + " " + frame["index"])
    several = frame["run"].nunique() > 1
    return names + " @ " + frame["run"] if several else names


def _kernels(frame: pd.DataFrame) -> pd.Series:
    """The kernels of each case: those that it asks for; of `auto` those that ran, of a case that failed before, those of its curve."""
    curve = [frame[name] for name in ("run", "model", "variant", "options", "index", "kernels")]
    ran = frame["ran_kernels"].where(frame["ran_kernels"] != "")
    of_curve = ran.groupby(curve).transform("first")
    chosen = ran.fillna(of_curve).fillna(frame["kernels"])
    asked_too = {tuple(row) for row in frame[[*_SAME_CURVE, "kernels"]].itertuples(index=False)}
    twice = [(*row, kernels) in asked_too for row, kernels in zip(frame[_SAME_CURVE].itertuples(index=False), chosen, strict=True)]
    return frame["kernels"].where((frame["kernels"] != "auto") | pd.Series(twice, frame.index), chosen)


_SAME_CURVE = ["run", "model", "variant", "options", "index"]


def setting_texts(frame: pd.DataFrame, without: str = "slots") -> pd.Series:
    """What the cases of a plot share, as text: mode, batch, steps, fill, and the other fields that vary in this frame.

    Args:
        without: the field on the plot's x axis, which is left out.
    """
    always = ("mode", "batch", "steps", "fill", "slots")
    shown = [name for name in SETTING if name != without and (name in always or frame[name].nunique() > 1)]
    return frame.apply(lambda row: ", ".join(_in_words(name, row[name]) for name in shown), axis=1)


def _in_words(name: str, value: object) -> str:
    """`batch 8`, `10 steps`, `1k slots`."""
    text = {"train": "training", "infer": "inference"}.get(str(value), str(value))
    if name == "slots":
        return f"{format_slots(int(str(value)))} slots"
    words = SETTING[name].format(text)
    return words.removesuffix("s") if words.startswith("1 ") else words
