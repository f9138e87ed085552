"""Profiles of several cases on one page: loaded from their folders, and named so that no two have one name."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from mann_bench.data.case import CURVE
from mann_bench.data.errors import UsageError, first_error
from mann_bench.data.labels import Labels
from mann_bench.data.text import one_line
from mann_bench.measure.ledger import CAUSES
from mann_bench.measure.profile import Profile
from mann_bench.reports.html.colors import colors_of
from mann_bench.reports.profile.folders import FILE


def load_profiles(folders: Iterable[Path]) -> dict[str, Profile]:
    """Load profiles by name, in the order of the folders; UsageError naming the file that cannot be read."""
    pairs = [(folder, _load(folder / FILE)) for folder in folders]
    return named([profile for _, profile in pairs], [folder for folder, _ in pairs])


def named(profiles: Sequence[Profile], folders: Sequence[Path] = ()) -> dict[str, Profile]:
    """Name profiles by model where that tells them apart, else by the fields that differ, else by their folder or number too."""
    names = [profile.case.title for profile in profiles]
    if len(set(names)) < len(names):
        label = Labels(profile.case for profile in profiles)
        names = [label(profile.case) for profile in profiles]
    if len(set(names)) < len(names):
        places = [folder.resolve().name for folder in folders] or [str(number) for number in range(1, len(names) + 1)]
        names = [f"{name} ({place})" for name, place in zip(names, places, strict=True)]
    result: dict[str, Profile] = {}
    for name, profile in zip(map(one_line, names), profiles, strict=True):
        number = 2
        unique = name
        while unique in result:
            unique, number = f"{name} {number}", number + 1
        result[unique] = profile
    return result


def colors_by_name(profiles: Mapping[str, Profile]) -> dict[str, str]:
    """The colour of each profile: that of its model on all pages, a shade of it where a model has several."""
    rows = [
        {"curve": name, "run": "", **{field: str(getattr(profile.case, field)) for field in CURVE}} for name, profile in profiles.items()
    ]
    frame = pd.DataFrame(rows)
    models = list(frame["model"])
    frame["run"] = [name if models.count(model) > 1 else "" for name, model in zip(profiles, models, strict=True)]
    return colors_of(frame)


def _load(path: Path) -> Profile:
    try:
        profile = Profile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UsageError(f"{path}: expected what `mann-bench profile` writes there: {first_error(error)}") from error
    complete = profile.points and profile.phases and profile.pass_ms and set(profile.memory.ledger) == set(CAUSES)
    if not complete or any(set(point.held) != set(CAUSES) for point in profile.points):
        raise UsageError(f"{path}: expected a profile with steps, phases and the causes {', '.join(CAUSES)}; profile the case again")
    return profile
