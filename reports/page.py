"""The report: verdict first, then plots, tables, failures, environment. Everything is computed from stored results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from mann_bench import __version__
from mann_bench.reports import plots
from mann_bench.reports.frame import environments, load_frame
from mann_bench.reports.ratios import Crossover, Ratio, crossovers, ratios
from mann_bench.reports.scaling import Exponent, exponents
from mann_bench.sizes import format_bytes, format_slots
from mann_bench.store import write_atomically


@dataclass(frozen=True)
class Findings:
    """All that is concluded from the results, before any formatting."""

    frame: pd.DataFrame
    settings: list[str]
    fits: dict[str, dict[tuple[str, str], Exponent]]  # by quantity
    ratios: list[Ratio]
    crossovers: list[Crossover]
    environments: list[dict[str, Any]]


def conclude(runs: list[Path]) -> Findings:
    """Load the runs and compute fits, ratios and crossovers; UsageError naming file and line if a run cannot be read."""
    frame = load_frame(runs)
    fits = {quantity.key: exponents(frame, quantity.column) for quantity in plots.QUANTITIES}
    settings = list(dict.fromkeys(frame["setting"]))
    return Findings(frame, settings, fits, ratios(frame), crossovers(frame), environments(runs))


def write_report(runs: list[Path], out: Path) -> Path:
    """Write report.html, report.md, results.csv and plots/ into `out`; returns the path of the page."""
    findings = conclude(runs)
    (out / "plots").mkdir(parents=True, exist_ok=True)
    figures = []
    for number, setting in enumerate(findings.settings):
        for quantity in plots.QUANTITIES:
            figure = plots.draw(findings.frame, quantity, findings.fits[quantity.key], setting)
            stem = f"{quantity.key}-{number}" if len(findings.settings) > 1 else quantity.key
            plots.save(figure, out / "plots" / stem)
            figures.append({"title": f"{quantity.title}, {setting}", "svg": plots.svg(figure), "file": f"plots/{stem}.png"})
    findings.frame.drop(columns=["setting"]).to_csv(out / "results.csv", index=False)
    context = {
        "version": __version__,
        "verdicts": verdicts(findings),
        "figures": figures,
        "growth": growth_table(findings),
        "ratios": ratio_table(findings),
        "crossovers": [{"setting": c.setting, "sparse": c.sparse, "dense": c.dense, "words": c.words} for c in findings.crossovers],
        "results": result_table(findings.frame),
        "failures": failures(findings.frame),
        "environments": [environment_lines(entry) for entry in findings.environments],
    }
    environment = Environment(
        loader=PackageLoader("mann_bench.reports"),
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_atomically(out / "report.md", environment.get_template("report.md.j2").render(context))
    page = out / "report.html"
    write_atomically(page, environment.get_template("report.html.j2").render(context))
    return page


def verdicts(findings: Findings) -> list[str]:
    """What a reader should take away, a sentence each."""
    said = []
    for setting in findings.settings:
        grows = [f"{curve} N^{fit.value:.2f}" for (where, curve), fit in findings.fits["memory_per_step"].items() if where == setting]
        if grows:
            said.append(f"Memory each further step takes ({setting}): {', '.join(grows)}.")
        times = [f"{curve} N^{fit.value:.2f}" for (where, curve), fit in findings.fits["time"].items() if where == setting]
        if times:
            said.append(f"Time per step ({setting}): {', '.join(times)}.")
        for pair in dict.fromkeys((r.sparse, r.dense) for r in findings.ratios if r.setting == setting):
            both = [r for r in findings.ratios if (r.setting, r.sparse, r.dense) == (setting, *pair)]
            at = max(both, key=lambda r: r.slots)
            faster = f"{at.speedup:.3g}x [{at.speedup_low:.3g}, {at.speedup_high:.3g}] as fast"
            where = f"At N = {format_slots(at.slots)}, the largest both ran at ({setting})"
            said.append(f"{where}, {at.sparse} is {faster} as {at.dense}{_smaller(at)}.")
    bad = findings.frame[findings.frame["status"] != "ok"]
    total = len(findings.frame)
    said.append(f"{total - len(bad)} of {total} cases were measured" + (f"; {len(bad)} were not, reasons below." if len(bad) else "."))
    return said


def _smaller(ratio: Ratio) -> str:
    return (
        f" and keeps {ratio.tape_ratio:.3g}x less a step for backward"
        if ratio.tape_ratio == ratio.tape_ratio and ratio.tape_ratio > 0
        else ""
    )


def growth_table(findings: Findings) -> list[dict[str, Any]]:
    """One line for each curve and quantity: exponent, interval, what it is consistent with, and over which sizes."""
    lines = []
    for quantity in plots.QUANTITIES:
        for (setting, curve), fit in findings.fits[quantity.key].items():
            lines.append(
                {
                    "quantity": quantity.title,
                    "setting": setting,
                    "curve": curve,
                    "exponent": f"{fit.value:.3f}",
                    "interval": f"[{fit.ci_low:.3f}, {fit.ci_high:.3f}]",
                    "verdict": fit.verdict,
                    "range": f"{format_slots(fit.first_slots)} to {format_slots(fit.last_slots)}, {fit.points} points",
                }
            )
    return lines


def ratio_table(findings: Findings) -> list[dict[str, Any]]:
    """Speed-up and memory ratio at each N."""
    return [
        {
            "setting": r.setting,
            "pair": f"{r.sparse} over {r.dense}",
            "slots": r.slots,
            "n": format_slots(r.slots),
            "speedup": f"{r.speedup:.3g}",
            "interval": f"[{r.speedup_low:.3g}, {r.speedup_high:.3g}]",
            "tape": f"{r.tape_ratio:.3g}" if r.tape_ratio == r.tape_ratio else "-",
        }
        for r in findings.ratios
    ]


def result_table(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Every measured case, with the raw values beside the formatted ones so that the page can sort."""
    measured = frame[frame["status"] == "ok"]
    return [
        {
            "case_id": row["case_id"],
            "curve": row["curve"],
            "setting": row["setting"],
            "slots": row["slots"],
            "n": format_slots(int(row["slots"])),
            "ms": row["step_ms_median"],
            "ms_text": f"{row['step_ms_median']:.4g}",
            "interval": f"[{row['step_ms_ci_low']:.4g}, {row['step_ms_ci_high']:.4g}]",
            "samples": row["samples"],
            "per_step": row["bytes_per_step"],
            "per_step_text": format_bytes(row["bytes_per_step"]),
            "per_slot": f"{row['bytes_per_step'] / row['slots'] / row['batch']:.3g}",
            "pass": row["pass_bytes"],
            "pass_text": format_bytes(row["pass_bytes"]),
            "peak": row["peak_bytes"],
            "peak_text": format_bytes(row["peak_bytes"]),
            "ran": row["ran_kernels"],
        }
        for row in measured.to_dict("records")
    ]


def failures(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What could not be measured, and why."""
    return [
        {
            "case_id": row["case_id"],
            "curve": row["curve"],
            "setting": row["setting"],
            "n": format_slots(int(row["slots"])),
            "status": row["status"],
            "reason": row["reason"],
        }
        for row in frame[frame["status"] != "ok"].to_dict("records")
    ]


def environment_lines(entry: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint as name and value."""
    facts: dict[str, Any] = entry.get("environment", {})
    shown = {"suite": entry.get("suite", "unknown"), "started": entry.get("started_at", "unknown")}
    for name, value in facts.items():
        if name.endswith("_bytes"):
            value = format_bytes(value) if value else None
            name = name.removesuffix("_bytes").replace("_", " ")
        if name == "gpus":
            value = ", ".join(f"{gpu['name']} ({gpu['uuid']}, driver {gpu['driver']})" for gpu in value) or "none"
        if isinstance(value, dict):
            value = ", ".join(f"{key} {inner}" for key, inner in value.items())
        shown[name.replace("_", " ")] = "none" if value is None else str(value)
    return {"run": entry["run"], "lines": shown}
