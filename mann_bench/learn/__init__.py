"""Learning: training runs on the task suite, their curricula, checkpoints and comparisons."""
