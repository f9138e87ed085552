"""`mann-bench plan`: the predicted cost of a suite."""

import json

import typer
from rich.table import Table

from mann_bench.cli.console import tell, wide_console
from mann_bench.cli.options import AsJson, SuiteName, SuiteOptions
from mann_bench.data.labels import LETTERS, Labels
from mann_bench.data.units import format_bytes, format_slots


def plan(
    suite: SuiteName,
    options: SuiteOptions,
    as_json: AsJson = False,
) -> None:
    """Show the cases of a suite with predicted bytes and time, and those that can never be built; nothing is run."""
    planned = options.load(suite)
    from mann_bench.measure.predict import predict, why_unbuildable

    predictions = [predict(case, planned.budget) for case in planned.cases]
    planned_bytes = zip(planned.cases, predictions, strict=True)
    problems = [why_unbuildable(case) if prediction.total_bytes is None else None for case, prediction in planned_bytes]
    if as_json:
        rows = [
            {
                "case_id": case.case_id,
                "case": case.model_dump(),
                "bytes": prediction.total_bytes,
                "bytes_by_cause": prediction.bytes_by_cause,
                "seconds": round(prediction.seconds, 1),
                "problem": problem,
            }
            for case, prediction, problem in zip(planned.cases, predictions, problems, strict=True)
        ]
        print(json.dumps(rows))
        raise typer.Exit(1 if any(problems) else 0)
    others = [name for name in Labels(planned.cases).fields if name not in ("batch", "steps", "fill", "device")]
    heads = ("model", "variant", "kernels", "index", "N", "B", "T", "fill", "mode", "device", *(LETTERS.get(name, name) for name in others))
    table = Table(*heads, "predicted", "seconds", "")
    for case, prediction, problem in zip(planned.cases, predictions, problems, strict=True):
        size_bytes = prediction.total_bytes
        remark = problem or ("over budget" if size_bytes is not None and size_bytes > planned.budget.memory else "")
        shape = [format_slots(case.slots), str(case.batch), str(case.steps), case.fill, case.mode, case.device]
        shape += [str(getattr(case, name)) for name in others]
        predicted = format_bytes(size_bytes) if size_bytes is not None else "unknown"
        table.add_row(case.model, case.variant, case.kernels, case.index, *shape, predicted, f"{prediction.seconds:.0f}", remark)
    wide_console().print(table)
    total_s = sum(prediction.seconds for prediction in predictions)
    budget = format_bytes(planned.budget.memory)
    print(f"{len(planned.cases)} cases, about {total_s / 60:.0f} min, within a factor of three; memory budget {budget} a case")
    for problem in dict.fromkeys(filter(None, problems)):
        tell(f"error: {problem}")
    raise typer.Exit(1 if any(problems) else 0)
