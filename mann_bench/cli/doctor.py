"""`mann-bench doctor`: the capabilities of this machine."""

import json
from typing import Annotated

import typer

from mann_bench.cli.options import AsJson


def doctor(
    selftest: Annotated[bool, typer.Option("--selftest", help="measure this machine's ceilings and look for planted faults")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what this machine has, what is missing and what that means."""
    from mann_bench.doctor.examine import examine

    if selftest:
        from mann_bench.doctor.selftest import selftest as examine
    findings = examine()
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            print(f"{finding.state:8} {finding.part:16} {finding.detail}")
    raise typer.Exit(1 if any(finding.state == "failed" for finding in findings) else 0)
