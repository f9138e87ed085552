"""`mann-bench plan`: what a suite would take."""

import json

from rich.table import Table

from mann_bench.cli.console import wide_console
from mann_bench.cli.options import AsJson, Device, Mode, Models, OwnModel, Seed, Slots, SuiteName, Threads, choose
from mann_bench.data.units import format_bytes, format_slots


def plan(
    suite: SuiteName,
    models: Models = "",
    model: OwnModel = None,
    slots: Slots = "",
    device: Device = None,
    threads: Threads = None,
    mode: Mode = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Show the cases of a suite with predicted bytes and time; nothing is run."""
    chosen = choose(suite, models, model, slots, device, threads, mode, seed)
    from mann_bench.measure.predict import predict

    predictions = [predict(case, chosen.budget) for case in chosen.cases]
    if as_json:
        rows = [
            {
                "case_id": c.case_id,
                "case": c.model_dump(),
                "bytes": p.total_bytes,
                "bytes_by_cause": p.bytes_by_cause,
                "seconds": round(p.seconds, 1),
            }
            for c, p in zip(chosen.cases, predictions, strict=True)
        ]
        print(json.dumps(rows))
        return
    table = Table("model", "variant", "kernels", "index", "N", "B", "T", "fill", "mode", "device", "predicted", "seconds", "")
    for case, prediction in zip(chosen.cases, predictions, strict=True):
        size_bytes = prediction.total_bytes
        over = "over budget" if size_bytes is not None and size_bytes > chosen.budget.memory else ""
        shape = (format_slots(case.slots), str(case.batch), str(case.steps), case.fill, case.mode, case.device)
        predicted = format_bytes(size_bytes) if size_bytes is not None else "unknown"
        table.add_row(case.model, case.variant, case.kernels, case.index, *shape, predicted, f"{prediction.seconds:.0f}", over)
    wide_console().print(table)
    total_s = sum(prediction.seconds for prediction in predictions)
    budget = format_bytes(chosen.budget.memory)
    print(f"{len(chosen.cases)} cases, about {total_s / 60:.0f} min, within a factor of three; memory budget {budget} a case")
