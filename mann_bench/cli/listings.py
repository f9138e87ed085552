"""The lists of `mann-bench list`: a row for each thing, its name first. Each imports what it lists when it is asked for."""

import inspect
import re
from collections.abc import Callable, Mapping

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.registry import ModelEntry, all_models, import_target
from mann_bench.data.suite import load_suite, suite_names
from mann_bench.learn.study import Study, load_study, study_names

SENTENCE_END = re.compile(r"(?<!et al)\. ")
Row = Mapping[str, str | int | list[str]]


def models() -> list[Row]:
    """The models: source, cost per step, options, and parameter count at the paper's sizes (X 10, H 100, W 32, R 4, N 64).

    A peer is not built, as its package may take long to import: the row says what its memory is, and why it cannot run here.
    """
    return [_model(entry) for entry in all_models()]


def options() -> list[Row]:
    """The options of each model, which suites, studies and --option set: arguments of its constructor that are no field of a case."""
    rows: list[Row] = []
    for entry in all_models():
        try:
            found = entry.options()
        except UsageError as error:  # a broken installed model must not hide the others
            rows.append({"name": entry.name, "default": "", "expects": "", "what": str(error)})
            continue
        for name, option in found.items():
            default = option.default_text or "needed"
            rows.append({"name": f"{entry.name}.{name}", "default": default, "expects": option.expected, "what": option.what})
    return rows


def suites() -> list[Row]:
    """The suites of `run`."""
    return [{"name": suite.name, "cases": len(suite.cases), "description": suite.description} for suite in map(load_suite, suite_names())]


def studies() -> list[Row]:
    """The studies of `learn`."""
    return [_study(study) for study in map(load_study, study_names())]


def tasks() -> list[Row]:
    """The tasks of `learn`: what a sequence asks for, what its level means, and which --task-option they take."""
    from mann_bench.suites.tasks import TASKS

    rows: list[Row] = []
    for name, target in TASKS.items():
        kind = import_target(f"task {name!r}", target)
        parameters = inspect.signature(kind).parameters
        options = [f"{option}={parameter.default}" for option, parameter in parameters.items() if isinstance(parameter.default, int)]
        reads = "--data PATH" if "data" in parameters else "nothing"
        what = _first_sentence(inspect.getmodule(kind))
        rows.append({"name": name, "what": what, "a level is a number of": kind.level_means, "options": options, "reads": reads})
    return rows


def indexes() -> list[Row]:
    """The indexes of sparse models, and what this machine lacks for each."""
    from mann_bench.kernels.index import INDEXES

    device = {True: "cuda", False: "cpu"}
    return [
        {
            "name": name,
            "what": _first_sentence(kind),
            "here": kind.why_not(device[name.startswith("faiss-gpu")]) or "available",
        }
        for name, kind in INDEXES.items()
    ]


def ops() -> list[Row]:
    """The operations that a suite measures alone, by the name of their model."""
    from mann_bench.suites.workloads.ops import OPS

    return [{"name": f"op:{name}", "what": _first_sentence(kind)} for name, kind in OPS.items()]


def claims() -> list[Row]:
    """The claims of the paper that `claims` and the report judge."""
    from mann_bench.reports.claims.claim import load_claims

    return [{"name": claim.id, "says": claim.says, "source": claim.source} for claim in load_claims()]


LISTINGS: Mapping[str, Callable[[], list[Row]]] = {
    "models": models,
    "options": options,
    "suites": suites,
    "studies": studies,
    "tasks": tasks,
    "indexes": indexes,
    "ops": ops,
    "claims": claims,
}


def _model(entry: ModelEntry) -> Row:
    import torch

    from mann_bench.kernels.index import INDEXES

    parameters = ""
    try:
        if not entry.package:
            with torch.device("meta"):
                parameters = f"{sum(p.numel() for p in entry.build(Case(suite='list', model=entry.name, slots=64)).parameters()):,}"
        options = [f"{name} = {option.default_text}" if option.default_text else name for name, option in entry.options().items()]
    except Exception as error:  # a broken installed model must not hide the others
        parameters, options = f"cannot be built: {error}", []
    here = f"unavailable: {reason}" if (reason := entry.why_not()) else "available" if entry.package else ""
    return {
        "model": entry.name,
        "what": entry.summary,
        "source": entry.source,
        "license": entry.license,
        "memory": entry.memory,
        "here": here,
        "time per step": entry.time_per_step,
        "space per step": entry.space_per_step,
        "variants": [name for name in entry.variants if name != "plain"],
        "indexes": list(INDEXES) if entry.uses_index else ["exact"] if entry.uses_slots else [],
        "options": options,
        "parameters": parameters,
    }


def _study(study: Study) -> Row:
    choosing, reported = study.run_counts()
    names = list(dict.fromkeys(entry.task for entry in study.tasks))
    return {"name": study.name, "tasks": names, "runs that choose": choosing, "reported": reported, "description": study.description}


def _first_sentence(documented: object) -> str:
    """The first sentence of a docstring, without its full stop."""
    text = " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())
    return SENTENCE_END.split(text)[0].removesuffix(".")
