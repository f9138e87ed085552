"""Whether two runs are comparable: the differences between the conditions that they were measured under."""

from mann_bench.data.conditions import MACHINE, SOFTWARE, Commit, Conditions, Environment, differences


def environment_differences(before: Conditions, after: Conditions) -> tuple[list[str], list[str]]:
    """Compare two conditions (`mann_bench.data.conditions`).

    Returns:
        Differences of the machine, which are a reason to refuse a comparison, and of its settings and software, a reason to warn.
    """
    nothing: Environment = {}
    old, new = (_without_this_package(side.get("environment", nothing)) for side in (before, after))
    if not old or not new:
        return [], ["run.json without an environment: both sides may have run on different machines"]
    warnings = differences(old, new, SOFTWARE)
    for name, side in (("A", old), ("B", new)):
        git: Commit = side.get("git") or {}
        warnings += [f"{name} had uncommitted changes"] if git.get("dirty") else []
        warnings += [f"the commit of {name} is not known: {git['error']}"] if git.get("error") else []
    return differences(old, new, MACHINE), warnings


def _without_this_package(environment: Environment) -> Environment:
    """The environment without the version of mann-bench, which is what a comparison is about."""
    packages = {name: version for name, version in environment.get("packages", {}).items() if name != "mann-bench"}
    return {**environment, "packages": packages} if "packages" in environment else environment
