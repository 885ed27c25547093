"""`rseq-matrix diff`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from rseq_matrix.commands.output import STANDARD_OUTPUT, check_outputs, emit, report_console
from rseq_matrix.documents.plain import to_json
from rseq_matrix.errors import EXIT_AS_EXPECTED, EXIT_DIFFERENT, UsageError
from rseq_matrix.matrix.comparison import class_changed, diff_document
from rseq_matrix.report.diff import show_diff


def _require_other_file(output: Path | None, inputs: Sequence[Path]) -> None:
    """Raise UsageError rather than write over what is compared."""
    if not output or output == STANDARD_OUTPUT or not output.exists():
        return
    if any(path.exists() and path.samefile(output) for path in inputs):
        raise UsageError(f"{output} is one of the documents that are compared: write to another file")


@click.command()
@click.argument("old", type=click.Path(path_type=Path), metavar="OLD.json")
@click.argument("new", type=click.Path(path_type=Path), metavar="NEW.json")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write JSON to PATH; '-' is standard output."
)
def diff(old: Path, new: Path, json_path: Path | None) -> None:
    """Show what differs between two documents of `run --json`: before and after an update of libc, or of two libcs.

    Cells are matched by their ids, without the libc where each document has only one. Addresses, CPU numbers and the
    order of records are not compared.

    Exit status: 0 no cell changed its class; 1 one did; 4 a file is no such document.
    """
    check_outputs([json_path])
    _require_other_file(json_path, (old, new))
    document = diff_document(old, new)
    if json_path:
        emit(json_path, to_json(document))
    if json_path != STANDARD_OUTPUT:
        show_diff(report_console(), document)
    sys.stdout.flush()
    sys.exit(EXIT_DIFFERENT if class_changed(document) else EXIT_AS_EXPECTED)
