"""The session of a study: task by task, first the runs that choose, then those that are reported, all in one folder.

A shard makes its part of the runs that choose, of all tasks, and of those that are reported whatever is chosen. When the folders of all
shards are joined, a second one makes its part of the rest: it takes the choice from the joined folder (`chosen`).

Nothing but the stored results decides what comes next. So a study that was killed anywhere, also between the two parts, goes on as if it
had not been. With larger limits its runs go on from where they ended, those that choose first.
"""

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from mann_bench.data.conditions import RunDescription
from mann_bench.data.errors import UsageError
from mann_bench.data.fields import JsonObject
from mann_bench.data.shards import Shard
from mann_bench.data.store import load_records, load_run
from mann_bench.data.units import format_duration
from mann_bench.learn.configurations import StudyPlan
from mann_bench.learn.division import part_of_runs
from mann_bench.learn.processes import Place
from mann_bench.learn.record import LEARNING, LIMITS, LearningResult, furthest
from mann_bench.learn.selection import Candidate, Choice, Configuration, StudyRecord, choose
from mann_bench.learn.session import LearningSession, describe


class StudySession:
    """The runs of a study in one folder.

    Args:
        data: folder or archive, for the tasks that read files.
        every_s: seconds between checkpoints.
        evaluation_s: time limit of each evaluated level.
        shard: make only its part of the runs.
        chosen: folder that has all runs that choose: only others are made.

    Raises:
        UsageError: as `RecordFolder`; for a folder with another study, saying what differs; for a `chosen` that lacks runs that choose.
    """

    def __init__(
        self,
        plan: StudyPlan,
        data: Path | None,
        path: Path,
        *,
        resume: bool,
        every_s: float,
        evaluation_s: float,
        console: Console,
        shard: Shard | None = None,
        chosen: Path | None = None,
    ) -> None:
        self.plan, self.data, self.path, self.console, self.shard = plan, data, path, console, shard
        self.times = {"every_s": every_s, "evaluation_s": evaluation_s}
        self.description = describe(list(plan.cases.values()), data, shard)
        self.description["study"] = plan.record.model_dump(mode="json")
        self.description["study_text"] = plan.study.text
        self.labels = {
            run_id: f"{configuration.task} {configuration.name}{label_of(candidate)} seed {plan.cases[run_id].seed}"
            for configuration in plan.record.configurations
            for candidate in configuration.candidates
            for run_id in (*candidate.selection, *candidate.reported)
        }
        if resume:
            check_same_study(path, self.description, may_go_further=True)
        ids = [run_id for configuration in plan.record.configurations for run_id in configuration.selection_ids]
        self.elsewhere = {} if chosen is None else load_chosen(chosen, self.description, ids)
        self.rounds = rounds_of(plan.record.configurations, shard)
        self.session = self.open_choosing(self.rounds[0], resume=resume)

    def open(self, ids: Sequence[str], *, resume: bool) -> LearningSession:
        """Open the session of these runs, or of the shard's part of them."""
        cases = part_of_runs([self.plan.cases[run_id] for run_id in ids if run_id not in self.elsewhere], self.shard)
        return LearningSession(
            cases, self.data, self.path, resume=resume, console=self.console, description=self.description, labels=self.labels, **self.times
        )

    def open_choosing(self, configurations: Sequence[Configuration], *, resume: bool) -> LearningSession:
        """Open the session of the runs that choose for these configurations."""
        return self.open([run_id for configuration in configurations for run_id in configuration.selection_ids], resume=resume)

    def run(self, place: Place) -> Counter[str]:
        """Make the runs that the folder does not hold yet, as many at a time as the place holds.

        Returns:
            How many runs ended with each status. A run of the grid that diverged counts as `budget`: that a rate is too high is an outcome.
        """
        self.announce(place.room())
        statuses: Counter[str] = Counter()
        for number, configurations in enumerate(self.rounds):
            if number > 0:
                self.session = self.open_choosing(configurations, resume=True)
            choosing = self.session.run(place)
            choosing["budget"] += choosing.pop("diverged", 0)
            self.session = self.open(self.to_report(configurations), resume=True)
            statuses += choosing + self.session.run(place)
        return statuses

    def to_report(self, configurations: Sequence[Configuration]) -> list[str]:
        """Say what is chosen; the ids of the runs that are to be reported, seed by seed."""
        results = self.elsewhere | furthest(self.session.folder.records)
        choices = [choose(configuration, self.plan.record.by, results) for configuration in configurations]
        reported: list[str] = []
        for choice in filter(None, choices):
            if len(choice.ranking) > 1:
                self.console.print(chosen_line(choice), soft_wrap=True)
            reported += [] if choice.failed else choice.best.candidate.reported
        return sorted(reported, key=lambda run_id: self.plan.cases[run_id].seed)  # a study cut short has all models at the same seeds

    @property
    def waits(self) -> bool:
        """Whether runs that are reported wait for the choice, to which other shards contribute."""
        choosing = {run_id for configuration in self.plan.record.configurations for run_id in configuration.selection_ids}
        return bool(choosing - {*self.elsewhere, *(record.run_id for record in self.session.folder.records)})

    def announce(self, jobs: int) -> None:
        """Say how many runs there will be, and how long they take at most."""
        choosing, reported = self.plan.study.run_counts()
        limits = [case.seconds for case in self.plan.cases.values()]
        seconds = [limit for limit in limits if limit is not None]
        most_s = (choosing + reported) * sum(seconds) / max(1, len(seconds)) / max(1, jobs)
        text = f"; at most about {format_duration(most_s)} of training, {jobs} at a time" if len(seconds) == len(limits) else ""
        self.console.print(f"{self.plan.study.name}: {choosing} runs choose, then {reported} are reported{text}", soft_wrap=True)


def rounds_of(configurations: Sequence[Configuration], shard: Shard | None) -> list[list[Configuration]]:
    """What is made together: the configurations of a task, so that a study cut short has whole tasks; in a shard all, divided evenly."""
    tasks = dict.fromkeys(configuration.task for configuration in configurations)
    return [[*configurations]] if shard else [[c for c in configurations if c.task == task] for task in tasks]


def load_chosen(folder: Path, description: RunDescription, ids: Sequence[str]) -> dict[str, LearningResult]:
    """The runs of a folder that holds all those that choose (`ids`), by run id; UsageError if it lacks some, or is of another study."""
    if not load_run(folder):
        raise UsageError(f"--chosen {folder}: expected the folder that `mann-bench merge` made of the shards that choose, got none there")
    check_same_study(folder, description, "--chosen")
    results = furthest(load_records(folder, LEARNING))
    if missing := sum(run_id not in results for run_id in ids):
        counts = f"expected all {len(ids)} runs that choose, got {len(ids) - missing}"
        raise UsageError(f"--chosen {folder}: {counts}; run the other shards and merge them first")
    return results


def label_of(candidate: Candidate) -> str:
    """The point of a candidate, in brackets; nothing without a grid."""
    return f" ({candidate.text})" if candidate.values else ""


def chosen_line(choice: Choice) -> str:
    """`recall, sam: learning_rate 0.003 chosen, before 0.001`."""
    configuration, (best, second, *_) = choice.configuration, choice.ranking
    if choice.failed:
        return f"{configuration.task}, {configuration.name}: no point of the grid trained to the end; nothing is reported"
    return f"{configuration.task}, {configuration.name}: {best.candidate.text} is chosen, before {second.candidate.text}"


def check_same_study(path: Path, description: RunDescription, option: str = "--resume", *, may_go_further: bool = False) -> None:
    """Raise UsageError, which says what differs, if a folder holds another study.

    Args:
        may_go_further: a study that differs in larger limits alone goes on.
    """
    existing = load_run(path) if path.is_dir() else {}
    if not existing:
        return
    if "study" not in existing or "study_text" not in existing:
        raise UsageError(f"{option} {path}: expected a run of this study, got one without a study; name another folder")
    old, new = existing["study"], description["study"]
    if all(old.get(part) == new[part] for part in ("by", "configurations")) or (may_go_further and goes_further(old, new)):
        return
    changed = _changes(*(_flat(tomllib.loads(run["study_text"])) for run in (existing, description)))
    changed = changed or _changes(*map(_settings_by_name, (existing, description)))  # the same text; what the machine or the code decides
    shown = "; ".join(changed[:5]) + (f"; {len(changed) - 5} more" if len(changed) > 5 else "") or "other runs"
    raise UsageError(
        f"{option} {path}: expected the study that is there, got a changed one ({shown}); undo the change (`study_text` in run.json is the "
        "text of then) or name another folder"
    )


def goes_further(old: JsonObject, new: JsonObject) -> bool:
    """Whether a study differs from its record in limits alone, none of which is lower (`record.LIMITS`)."""
    before, after = StudyRecord.model_validate(old), StudyRecord.model_validate(new)
    if before.by != after.by or len(before.configurations) != len(after.configurations):
        return False
    for was, now in zip(before.configurations, after.configurations, strict=True):
        limits = {name: now.settings[name] for name in LIMITS}
        lower = any(limit is not None and limit < (was.settings[name] or math.inf) for name, limit in limits.items())
        if lower or was.model_copy(update={"settings": {**was.settings, **limits}}) != now:
            return False
    return True


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What differs between two tables, a phrase each: `grid.reads: [4] and [4, 8]`."""
    names = dict.fromkeys([*old, *new])
    return [f"{n}: {old.get(n, 'none')} and {new.get(n, 'none')}" for n in names if old.get(n) != new.get(n)]


def _flat(value: object, name: str = "") -> dict[str, str]:
    """`{"grid": {"heads": [1]}}` -> `{"grid.heads": "[1]"}`; a list of tables by number."""
    if isinstance(value, dict):
        parts = [_flat(part, f"{name}.{key}" if name else key) for key, part in value.items()]
    elif isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        parts = [_flat(part, f"{name} {number}") for number, part in enumerate(value, 1)]
    else:
        return {name: repr(value)}
    return {key: text for part in parts for key, text in part.items()}


def _settings_by_name(description: RunDescription) -> Mapping[str, str]:
    """Settings of each configuration of a study, as texts."""
    return {
        f"{configuration['task']}, {configuration['model']} {configuration['arm']}".rstrip() + f": {name}": repr(value)
        for configuration in description["study"]["configurations"]
        for name, value in configuration["settings"].items()
    }
