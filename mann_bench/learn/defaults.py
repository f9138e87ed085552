"""What `mann-bench learn TASK` trains with unless told otherwise: settings that each task is learned with in minutes on a CPU."""

from typing import Any

EVERY_TASK: dict[str, Any] = {
    "index": "live",  # sparse models start from an empty memory, of which only rows written since are candidates
    "slots": 128,
    "word_size": 20,
    "heads": 1,
    "hidden": 100,
    "batch": 16,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "clip": 1.0,  # at 10 SAM's loss jumps back up again and again
}

# What differs from the above, by task.
OF_TASK: dict[str, dict[str, Any]] = {
    "recall": {"word_size": 32, "heads": 4, "reads": 8, "learning_rate": 3e-3},  # at 1e-3 no model finds the key in 250k sequences
    "priority-sort": {"heads": 4},
    "omniglot": {"word_size": 32, "heads": 4, "hidden": 200, "learning_rate": 3e-4, "goal": 0.2},
    "babi": {"word_size": 32, "heads": 4, "hidden": 256, "batch": 8, "slots": 256, "learning_rate": 3e-4, "goal": 0.05},
}


def settings(task: str) -> dict[str, Any]:
    """Fields of a `LearningCase` for a task, one's own included."""
    return EVERY_TASK | OF_TASK.get(task, {})
