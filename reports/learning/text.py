"""Numbers of the learning report as text, for its tables and its sentences."""

from mann_bench.data.units import format_duration, format_number
from mann_bench.reports.learning.comparison import GoalRatio
from mann_bench.reports.learning.experiments import Experiment


def ratio_text(ratio: GoalRatio) -> str:
    """Format a ratio with its interval; a bound has none."""
    value, low, high, bound = ratio
    upper = format_number(high) if high < float("inf") else "none"
    return f"{bound} {format_number(value)}" if bound else f"{format_number(value)} [{format_number(low)}, {upper}]"


def whole(value: float) -> str:
    """Format a whole number: `12,000`."""
    return f"{value:,.0f}"


def percent(fraction: float) -> str:
    """Format a fraction as a percentage: `82%`."""
    return f"{100 * fraction:.0f}%"


def error_text(error: float, experiment: Experiment) -> str:
    """Format an error in the experiment's unit: bits, or the fraction of wrong answers as a percentage."""
    return f"{error:.3g}" if experiment.counts_bits else f"{100 * error:.1f}%"


def run_length(experiment: Experiment) -> str:
    """State how long the runs were trained, and whether a limit ended them before the goal."""
    sequences = [run.sequences for run in experiment.runs if run.curve]
    seconds = [run.curve[-1].wall_s for run in experiment.runs if run.curve]
    stopped = any(run.status != "ok" for run in experiment.runs if run.curve)
    span = f"{min(sequences):,} to {max(sequences):,}" if min(sequences) < max(sequences) else f"{max(sequences):,}"
    text = f"{span} training sequences, at most {format_duration(max(seconds))}"
    return f"A short run, ended by its limit and not because it had learned: {text}." if stopped else f"Trained to the goal: {text}."
