"""Task generators: seeded, batched sequences that a memory must hold, each with one difficulty level."""

from mann_bench.suites.tasks.sequences import associative_recall, copy, pair_recall

__all__ = ["associative_recall", "copy", "pair_recall"]
