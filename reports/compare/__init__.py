"""Two runs against each other, case by case."""
