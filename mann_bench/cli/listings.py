"""The lists of `mann-bench list`: a row for each thing, its name first. Each imports what it lists when it is asked for."""

import inspect
import re
from collections.abc import Callable, Mapping

from mann_bench.data.errors import UsageError
from mann_bench.data.registry import all_models, describe_models, import_target
from mann_bench.data.suite import load_suite, suite_names
from mann_bench.learn.study import Study, load_study, study_names

SENTENCE_END = re.compile(r"(?<!et al)\. ")
Row = Mapping[str, str | int | list[str]]


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
    "models": lambda: [*describe_models()],
    "options": options,
    "suites": suites,
    "studies": studies,
    "tasks": tasks,
    "indexes": indexes,
    "ops": ops,
    "claims": claims,
}


def _study(study: Study) -> Row:
    choosing, reported = study.run_counts()
    names = list(dict.fromkeys(entry.task for entry in study.tasks))
    return {"name": study.name, "tasks": names, "runs that choose": choosing, "reported": reported, "description": study.description}


def _first_sentence(documented: object) -> str:
    """The first sentence of a docstring, without its full stop."""
    text = " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())
    return SENTENCE_END.split(text)[0].removesuffix(".")
