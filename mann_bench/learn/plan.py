"""Plan the runs of one command: one case for each model and seed."""

import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources

import torch
from pydantic import ValidationError

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.options import Options
from mann_bench.data.registry import GRAPH, MODEL_WORKLOAD, SHIPPED, find_model, split_variant
from mann_bench.data.suite import Budget
from mann_bench.data.units import format_bytes, format_slots
from mann_bench.kernels.index import find_index
from mann_bench.learn.memory_size import slots_for
from mann_bench.learn.record import LearningCase, LearningOptions, Settings
from mann_bench.learn.trainer import benchmark_case, build
from mann_bench.measure.predict import is_own, missing_modules, predict, why_unbuildable
from mann_bench.run.largest import predicted_largest
from mann_bench.suites.tasks import Task

EQUAL_STEPS = 100  # training steps whose memory `--equal-memory` makes equal, as in figure 3 of Rae et al. 2016
CURRICULUM_SLOTS = 2**10  # by default, where levels grow for as long as the budget lasts
ANY_LEVEL = 2**30  # highest level of a curriculum on a task without a highest level


class SettingError(UsageError):
    """A run cannot have the value of a setting; the message says what was expected and given. `setting` is "" where several clash."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


def plan(task_name: str, task: Task, models: Sequence[str], seeds: Iterable[int], options: LearningOptions) -> list[LearningCase]:
    """Plan one run for each model, combination of its options, and seed; what is set overrides the task's defaults.

    Returns:
        The cases seed by seed, so that a session cut short has all models at the same seeds.

    Raises:
        UsageError: naming the option at fault.
    """
    options.options.check("--option", models)
    settings = [(model, fields) for model in dict.fromkeys(models) for fields in options.of_model(model)]
    try:
        return [plan_run(task_name, task, model, seed, fields) for seed in seeds for model, fields in settings]
    except SettingError as error:
        option = f"--{error.setting}: ".replace("_", "-") if error.setting else "learn: "
        raise UsageError(f"{option}{error}") from error


def plan_run(task_name: str, task: Task, model: str, seed: int, settings: Settings) -> LearningCase:
    """Plan one run and check that its model can be built.

    Args:
        settings: fields of the case that differ from the task's defaults.

    Raises:
        SettingError: naming the setting at fault.
        UsageError: there is no such model.
    """
    name, variant = split_variant(model)
    entry = find_model(name)
    if entry.workload != MODEL_WORKLOAD:
        raise UsageError(f"learn: expected models, got {model!r}; ops and indexes do not learn")
    if variant == GRAPH:
        raise UsageError(f"learn: {model} replays one pass of one length, and training needs many; use {name}")
    fields = default_settings(task_name) | dict(settings)
    if name in SHIPPED and not entry.uses_index:  # a dense model has no index to choose
        fields |= {"index": "exact", "test_index": None}
    for setting in ("index", "test_index"):
        if fields.get(setting) is not None:
            check_index(setting, fields[setting])
    exponential = fields.get("curriculum") == "exponential"
    fields.setdefault("levels", (task.first_level, task.last_level or ANY_LEVEL) if exponential else task.levels)
    fields.setdefault("first_level", fields["levels"][0])
    for level in fields["levels"]:
        try:
            task.check_level(level)
        except ValueError as error:
            raise SettingError("levels", str(error)) from error
    held = CURRICULUM_SLOTS if exponential else slots_for(task, fields["levels"][1], fields["heads"])
    fields.setdefault("slots", entry.slots_from(held, fields["reads"], fields.get("options") or Options()))
    fields |= {"task": task_name, "data": task.fingerprint, "model": name, "variant": variant, "seed": seed}
    try:
        case = LearningCase(**fields)
        if entry.package:  # which may take long to import, or be missing here
            if problem := why_unbuildable(benchmark_case(case)):
                raise ValueError(problem)
        elif is_own(benchmark_case(case)):  # code of a user's runs in its own process only: building it may have any effect
            with torch.device("meta"):
                build(case, task)
        return case
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingError(str(first["loc"][0]) if first["loc"] else "", first["msg"].removeprefix("Value error, ")) from error
    except (ValueError, TypeError) as error:  # TypeError: a model's option of another type
        raise SettingError("", f"{model}: {error}") from error


def check_index(setting: str, name: str) -> None:
    """Raise SettingError unless there is an index of that name. One of the user's is not imported: that may have any effect."""
    if missing := missing_modules(name):
        raise SettingError(setting, missing)
    try:
        if ":" not in name:
            find_index(name)
    except ValueError as error:
        raise SettingError(setting, str(error)) from error


def default_settings(task: str) -> Settings:
    """Fields of a `LearningCase` that a task is trained with by default; a user's own task gets those of every task."""
    defaults = tomllib.loads(resources.files("mann_bench.learn").joinpath("defaults.toml").read_text())
    settings: Settings = defaults["every-task"] | defaults.get(task, {})
    return settings


def with_equal_memory(
    cases: list[LearningCase], task: Task, asked_by: str = "--equal-memory", reference: str = "sam"
) -> tuple[list[LearningCase], list[str]]:
    """Give every model as many slots as fit the bytes that the reference model takes with its own.

    Bytes are the models' own predictions for `EQUAL_STEPS` steps of training. Models without slots stay as they are.

    Args:
        asked_by: the option or key that asks for it, which errors name.

    Returns:
        The changed cases, and a sentence for each choice.

    Raises:
        UsageError: the reference is not among the models, or no size of a model fits.
    """
    of_reference = [case for case in cases if case.model == reference]
    if not of_reference:
        raise UsageError(f"{asked_by}: expected {reference} among the models, whose bytes the others get; got none")
    size_bytes = predict(prediction_case(of_reference[0], task), Budget()).total_bytes
    if size_bytes is None:
        raise UsageError(f"{asked_by}: the bytes of {reference} with index {of_reference[0].index} are not known before it runs")
    over = f"{EQUAL_STEPS} steps at batch {of_reference[0].batch}"
    notes = [f"{reference} with N = {format_slots(of_reference[0].slots)} takes {format_bytes(size_bytes)} over {over}"]
    slots_of: dict[str, int] = {}
    for case in cases:
        if case.model == reference or not find_model(case.model).uses_slots or case.title in slots_of:
            continue
        budget = Budget().model_copy(update={"memory": size_bytes, "case_seconds": float("inf")})
        slots = predicted_largest(prediction_case(case, task), budget)
        if slots is None:
            raise UsageError(f"{asked_by}: {case.title} does not predict its bytes (memory_bytes); leave it out or give each its slots")
        if slots == 0:
            raise UsageError(f"{asked_by}: {format_bytes(size_bytes)} are too few for {case.title}; give {reference} more slots")
        slots_of[case.title] = slots
        notes.append(f"{case.title} gets N = {format_slots(slots)} in the same bytes")
    return [case.model_copy(update={"slots": slots_of.get(case.title, case.slots)}) for case in cases], notes


def prediction_case(case: LearningCase, task: Task) -> Case:
    """The benchmark case whose bytes are predicted: `EQUAL_STEPS` steps of training."""
    return benchmark_case(case, input_size=max(3, task.input_size), steps=EQUAL_STEPS)
