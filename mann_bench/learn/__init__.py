"""Learning: training runs on tasks, with curricula, checkpoints and held-out evaluation."""
