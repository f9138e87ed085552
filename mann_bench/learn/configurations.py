"""The runs of a study: for each task, arm and model the candidates (points of the grid), each with its runs for both sets of seeds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mann_bench.data.errors import UsageError
from mann_bench.data.option_axes import lacking_sentences
from mann_bench.data.options import Options
from mann_bench.data.registry import split_variant
from mann_bench.learn.memory_size import too_small
from mann_bench.learn.plan import SettingError, plan_run, with_equal_memory
from mann_bench.learn.record import LearningCase, Settings
from mann_bench.learn.selection import Candidate, Configuration, StudyRecord
from mann_bench.learn.study import Study
from mann_bench.suites.tasks import Task, find_task, takes_data


@dataclass(frozen=True)
class StudyPlan:
    """All runs that a study may make, by run id, those that choose first; `record` says what each is for.

    Attributes:
        notes: how many slots models got where their memories are made equal.
    """

    study: Study
    record: StudyRecord
    cases: Mapping[str, LearningCase]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def plan_study(study: Study, source: str, data: Path | None, machine: Settings) -> StudyPlan:
    """Plan all runs of a study.

    Args:
        source: name of the study in error messages.
        data: folder or archive, for those of its tasks that read files.
        machine: fields of every case that the machine decides: device, threads, memory_bytes.

    Raises:
        UsageError: naming the table and the setting at fault.
    """
    if data is not None and not any(takes_data(entry.task) for entry in study.tasks):
        raise UsageError(f"{source}: expected no data, its tasks draw their sequences at random, got {str(data)!r}; leave --data out")
    cases: dict[str, LearningCase] = {}
    configurations: list[Configuration] = []
    names = [split_variant(model)[0] for arm in study.arms for model in study.models_of(arm)]
    warnings: list[str | None] = [*lacking_sentences(study.lacking(), names)]
    notes: list[str] = []
    for entry in study.tasks:
        options = {**study.fixed, **entry.settings}.get("task_options", {})
        task = find_task(entry.task, data if takes_data(entry.task) else None, options)
        for arm in study.arms:
            settings = {**study.fixed, **entry.settings, **arm.settings, **machine}
            planned: list[tuple[str, Settings, LearningCase]] = []
            for model in study.models_of(arm):
                place = f"{source}: [[task]] {entry.task}" + (f", [[arm]] {arm.name}" if arm.name else "") + f", {model}"
                (fixed,) = study.options_of(arm, entry).points(model)
                for point in study.points_of(arm, model):
                    options = Options({**fixed, **point.get("options", {})})
                    case = _plan(place, entry.task, task, model, {**settings, **point, "options": options})
                    planned.append((model, _plain(point), case))
            if study.equal_memory:
                equal, sentences = with_equal_memory([case for _, _, case in planned], task, f"{source}: equal_memory")
                planned = [(model, point, case) for (model, point, _), case in zip(planned, equal, strict=True)]
                notes += sentences
            warnings += [too_small(case, task) for _, _, case in planned]
            for model in study.models_of(arm):
                candidates = [(point, case) for name, point, case in planned if name == model]
                configurations.append(_configuration(study, entry.task, arm.name, model, candidates, cases))
    by = study.selection.by if study.selection else "validation"
    record = StudyRecord(name=study.name, description=study.description, by=by, configurations=configurations)
    choosing = {run_id: cases[run_id] for configuration in configurations for run_id in configuration.selection_ids}
    return StudyPlan(study, record, choosing | cases, tuple(dict.fromkeys(filter(None, warnings))), tuple(dict.fromkeys(notes)))


def _plain(point: Settings) -> Settings:
    """A point of a grid as it is stored: of the options those that the model has, if it has any."""
    settings = {name: value for name, value in point.items() if name != "options"}
    return settings | ({"options": dict(point["options"])} if point.get("options") else {})


def _plan(place: str, task_name: str, task: Task, model: str, settings: Settings) -> LearningCase:
    """The case of a candidate with the first seed of the report."""
    try:
        return plan_run(task_name, task, model, 0, settings)
    except SettingError as error:
        raise UsageError(": ".join(filter(None, (place, error.setting, str(error))))) from error


def _configuration(
    study: Study, task: str, arm: str, model: str, candidates: list[tuple[Settings, LearningCase]], cases: dict[str, LearningCase]
) -> Configuration:
    """The configuration of these candidates; its runs are added to `cases`. UsageError if other candidates have the same runs."""

    def seeded(case: LearningCase, seeds: tuple[int, ...], **changes: object) -> Iterator[str]:
        for seed in seeds:
            run = case.model_copy(update={"seed": seed, **changes})
            if run.run_id in cases:
                where = f"[[arm]] {arm}" if arm else "[[task]]"
                raise UsageError(
                    f"{study.name}: {where}: {task}, {model}: expected runs of its own, got those of another table or point of the grid; "
                    "remove one of the two"
                )
            cases[run.run_id] = run
            yield run.run_id

    to_the_limit = {"stop_at_goal": False} if study.selection and study.selection.by == "validation" else {}
    choosing = study.selection.seeds if study.selection and len(candidates) > 1 else ()
    planned = [
        Candidate(values=point, selection=tuple(seeded(case, choosing, **to_the_limit)), reported=tuple(seeded(case, study.report.seeds)))
        for point, case in candidates
    ]
    fields = candidates[0][1].model_dump(mode="json", exclude={"seed", "task", "model", "variant"}, by_alias=True)
    return Configuration(task=task, arm=arm, model=model, settings=fields, candidates=tuple(planned))
