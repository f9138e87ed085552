"""Whether two run folders plan the same cases, and in words how they do not."""

from mann_bench.data.axes import differing_axes
from mann_bench.data.conditions import RunDescription


def other_plan(existing: RunDescription, description: RunDescription, other: str = "this command") -> str:
    """How two descriptions that plan different cases differ, in words; `other` names the second."""
    there, here = len(existing.get("case_ids", [])), len(description.get("case_ids", []))
    if existing.get("shard") != description.get("shard"):
        return f"that run is {shard_in_words(existing)}, {other} {shard_in_words(description)}"
    if existing.get("suite") != description.get("suite"):
        return f"that run is of suite {existing.get('suite')!r}, {other} of {description.get('suite')!r}"
    counts = f"that run has {there} cases of suite {existing.get('suite')!r}, {other} plans {here} others"
    if "axes" not in existing:  # an older mann-bench wrote it
        return counts
    return f"{counts} ({'; '.join(differing_axes(existing['axes'], description.get('axes', {}))) or 'the same values, combined otherwise'})"


def shard_in_words(run: RunDescription) -> str:
    """Which part of its plan a run is for."""
    shard = run.get("shard")
    return f"shard {shard.get('number')}/{shard.get('count')} of its plan" if shard else "the whole of its plan"


def same_plan(existing: RunDescription, description: RunDescription) -> bool:
    """Whether two descriptions plan the same part of the same cases or, where both name training runs, of the same runs (whose limits may
    differ)."""
    if existing.get("shard") != description.get("shard"):
        return False
    if existing.get("case_ids") == description.get("case_ids"):
        return True
    return "run_ids" in existing and "run_ids" in description and set(existing["run_ids"]) == set(description["run_ids"])


def continued(existing: RunDescription, description: RunDescription) -> RunDescription:
    """The description of a run that goes on: that of its start, with the study as it is now, whose limits may be larger."""
    if "study" not in description or existing.get("study") == description["study"]:
        return existing
    return {**existing, "study": description["study"], "study_text": description["study_text"]}
