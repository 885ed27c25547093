"""`rseq-matrix diff`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from rseq_matrix.commands.output import STANDARD_OUTPUT, check_outputs, emit
from rseq_matrix.comparison import class_changed, diff_document
from rseq_matrix.document import to_json
from rseq_matrix.errors import EXIT_AS_EXPECTED, EXIT_DIFFERENT
from rseq_matrix.report.comparison import show_diff


@click.command()
@click.argument("old", type=click.Path(path_type=Path), metavar="OLD.json")
@click.argument("new", type=click.Path(path_type=Path), metavar="NEW.json")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write what differs; '-' is stdout.")
def diff(old: Path, new: Path, json_path: Path | None) -> None:
    """Show what differs between two documents of `run --json`: before and after an update of libc, or of two libcs.

    Cells are matched by their ids, without the libc where each document has only one. Addresses, CPU numbers and the
    order of records are not compared.

    Exit status: 0 no cell changed its class; 1 one did; 4 a file is no such document.
    """
    check_outputs([json_path])
    document = diff_document(old, new)
    if json_path:
        emit(json_path, to_json(document))
    if json_path != STANDARD_OUTPUT:
        show_diff(Console(), document)
    sys.stdout.flush()
    sys.exit(EXIT_DIFFERENT if class_changed(document) else EXIT_AS_EXPECTED)
