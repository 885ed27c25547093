"""`rseq-matrix stages`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from rseq_matrix.commands.output import emit, report_console
from rseq_matrix.model.stages import STAGES
from rseq_matrix.report.table import show_stages


@click.command()
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write JSON to PATH; '-' is standard output."
)
def stages(json_path: Path | None) -> None:
    """List the stages: when each comes, what fires it, what may be used there."""
    if json_path:
        rows = [{"stage": stage.name, **asdict(stage)} for stage in STAGES.values()]
        emit(json_path, json.dumps({"schema": 1, "stages": rows}, indent=1) + "\n")
    else:
        show_stages(report_console())
