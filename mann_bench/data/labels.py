"""Short names of cases that tell apart all cases of a run, or of a comparison of two."""

from collections.abc import Iterable

from mann_bench.data.case import Case

LETTERS = {"batch": "B", "steps": "T", "heads": "R", "reads": "K", "word_size": "W", "hidden": "H", "input_size": "X"}
# What may differ between cases of the same model, variant, kernels, index, N and mode, which `Case.label` shows.
FIELDS = ("device", *LETTERS, "fill", "dtype", "threads", "seed")


class Labels:
    """Name each case by `Case.label` and the fields that differ between the cases given: `sam lsh N=1M train R=4 threads=2`."""

    def __init__(self, cases: Iterable[Case]) -> None:
        first: Case | None = None
        differing: set[str] = set()
        for case in cases:
            first = first or case
            differing |= {name for name in FIELDS if name not in differing and getattr(case, name) != getattr(first, name)}
        self.fields = [name for name in FIELDS if name in differing]

    def __call__(self, case: Case) -> str:
        """Name a case."""
        return " ".join([case.label, *(f"{LETTERS.get(name, name)}={getattr(case, name)}" for name in self.fields)])
