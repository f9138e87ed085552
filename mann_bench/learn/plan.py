"""From what was asked to the runs that will be made: one case a model and seed."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from pydantic import ValidationError

from mann_bench.data.case import Case
from mann_bench.data.errors import UsageError
from mann_bench.data.registry import BUILT_INS, MODEL_WORKLOAD, find_model, split_variant
from mann_bench.data.suite import Budget
from mann_bench.data.units import format_bytes, format_slots
from mann_bench.kernels.index import find_index
from mann_bench.learn.defaults import settings
from mann_bench.learn.record import LearningCase
from mann_bench.learn.trainer import benchmark_case, build
from mann_bench.measure.predict import predict
from mann_bench.run.largest import predicted_largest
from mann_bench.suites.tasks import Task

EQUAL_STEPS = 100  # over which memory is made equal, as in figure 3 of Rae et al. 2016
ANY_LEVEL = 2**30  # where a curriculum has no end


def plan(task_name: str, task: Task, models: Sequence[str], seeds: Iterable[int], asked: dict[str, Any]) -> list[LearningCase]:
    """The cases, seed by seed, so that a session cut short has all models at the same seeds; `asked` overrides a task's defaults.

    A value that is a dictionary, the task's options aside, gives each model its own, by the name it was asked for with. UsageError
    naming the option at fault.
    """
    return [case_of(task_name, task, model, seed, asked) for seed in seeds for model in models]


def case_of(task_name: str, task: Task, model: str, seed: int, asked: dict[str, Any]) -> LearningCase:
    """One run."""
    name, variant = split_variant(model)
    entry = find_model(name)
    if entry.workload != MODEL_WORKLOAD:
        raise UsageError(f"learn: expected models, got {model!r}; ops and indexes do not learn")
    own = {
        field: value.get(model, value.get("")) if isinstance(value, dict) and field != "task_options" else value
        for field, value in asked.items()
    }
    fields = settings(task_name) | {field: value for field, value in own.items() if value is not None}
    if name in BUILT_INS and not entry.uses_index:
        fields["index"] = "exact"
    try:
        find_index(fields["index"])
    except ValueError as error:
        raise UsageError(f"--index: {error}") from error
    exponential = fields.get("curriculum", "none") == "exponential"
    low, high = (task.first_level, task.last_level or ANY_LEVEL) if exponential else task.levels
    fields.setdefault("levels", (low, high))
    fields.setdefault("first_level", fields["levels"][0])
    for level in fields["levels"]:
        try:
            task.check_level(level)
        except ValueError as error:
            raise UsageError(f"--levels: {error}") from error
    fields |= {"task": task_name, "data": task.fingerprint, "model": name, "variant": variant, "seed": seed}
    try:
        case = LearningCase(**fields)
        if name in BUILT_INS:  # one of the user's own may do anything while it is built: in its own process only
            with torch.device("meta"):
                build(case, task)
        return case
    except ValidationError as error:
        first = error.errors()[0]
        where = f"--{first['loc'][0]}: ".replace("_", "-") if first["loc"] else ""
        raise UsageError(f"learn: {where}{first['msg'].removeprefix('Value error, ')}") from error
    except ValueError as error:
        raise UsageError(f"learn: {model}: {error}") from error


def with_equal_memory(cases: list[LearningCase], task: Task, reference: str = "sam") -> tuple[list[LearningCase], list[str]]:
    """The cases with as many slots as fit the bytes that `reference` takes with its own, and what was chosen, in sentences.

    Bytes are the models' own predictions of `EQUAL_STEPS` steps of training. Models without slots stay as they are. UsageError where the
    reference is not among the models.
    """
    of_reference = [case for case in cases if case.model == reference]
    if not of_reference:
        raise UsageError(f"--equal-memory: expected {reference} among the models, whose bytes the others get; got none")
    size_bytes = predict(shape(of_reference[0], task), Budget()).total_bytes or 0
    over = f"{EQUAL_STEPS} steps at batch {of_reference[0].batch}"
    told = [f"{reference} with N = {format_slots(of_reference[0].slots)} takes {format_bytes(size_bytes)} over {over}"]
    chosen: dict[str, int] = {}
    for case in cases:
        entry = find_model(case.model)
        name = case.name
        if case.model == reference or not entry.uses_slots or name in chosen:
            continue
        slots = predicted_largest(shape(case, task), Budget().model_copy(update={"memory": size_bytes, "case_seconds": float("inf")}))
        if slots is None:
            raise UsageError(f"--equal-memory: {name} does not predict its bytes (memory_bytes); leave it out or give --slots to each")
        if slots == 0:
            raise UsageError(f"--equal-memory: {format_bytes(size_bytes)} are too few for {name}; give {reference} more --slots")
        chosen[name] = slots
        told.append(f"{name} gets N = {format_slots(slots)} in the same bytes")

    def fitted(case: LearningCase) -> LearningCase:
        return case.model_copy(update={"slots": chosen.get(case.name, case.slots)})

    return [fitted(case) for case in cases], told


def shape(case: LearningCase, task: Task) -> Case:
    """The benchmark case whose bytes are predicted: `EQUAL_STEPS` steps of training."""
    return benchmark_case(case, input_size=max(3, task.input_size), steps=EQUAL_STEPS)
