"""The paper's bAbI table, from `babi.toml`."""

import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class PaperErrors:
    """Test errors in % by task, a column a model; `corrected`: what is said about the reading of a task's row; the means and the numbers of
    failed tasks as printed, which the cells agree with to a tenth.
    """

    source: str
    models: tuple[str, ...]
    names: tuple[str, ...]
    errors: tuple[tuple[float, ...], ...]
    corrected: dict[int, str]
    printed_mean: dict[str, float]
    printed_failed: dict[str, int]
    fails_above: float

    def of(self, model: str) -> list[float]:
        """One model's column."""
        return [row[self.models.index(model)] for row in self.errors]


def load() -> PaperErrors:
    """Read the file."""
    data = tomllib.loads(resources.files("mann_bench.reports.learning").joinpath("babi.toml").read_text())
    tasks = data["task"]
    return PaperErrors(
        data["source"],
        tuple(data["models"]),
        tuple(task["name"] for task in tasks),
        tuple(tuple(task["error"]) for task in tasks),
        {number: task["corrected"] for number, task in enumerate(tasks, 1) if "corrected" in task},
        dict(zip(data["models"], data["printed"]["mean"], strict=True)),
        dict(zip(data["models"], data["printed"]["failed"], strict=True)),
        data["fails_above"],
    )


TEST_ERRORS = load()
