"""`rseq-matrix libcs`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from rseq_matrix.commands.output import check_outputs, emit, report_console
from rseq_matrix.kernels.host import require_platform
from rseq_matrix.libcs.catalogue import Listed, catalogue

SCHEMA = 1
STYLES = {True: "green", False: "yellow"}
MEGABYTE = 1e6


def _show(console: Console, libc: Listed) -> None:
    """Draw one libc: a line, and below it what is known of it."""
    size = f"{libc.size / MEGABYTE:.1f} MB" if libc.size else ""
    head = Text.assemble((f"{libc.spec:14}", "bold"), (f"{libc.state:13}", STYLES[libc.usable]))
    head.append(f"{libc.version or '-':10}{size:>9}")
    console.print(head, soft_wrap=True)
    known = {
        "": libc.problem or libc.integration,
        "package": libc.package,
        "build id": libc.build_id,
        "in": libc.directory,
    }
    for name, value in known.items():
        if value:
            console.print(Text.assemble("    ", (f"{name} " if name else "", "dim"), value), soft_wrap=True)


@click.command()
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write JSON to PATH; '-' is standard output."
)
def libcs(specs: tuple[str, ...], json_path: Path | None) -> None:
    """List the libcs that `run --libc` takes: which are cached, and what each does about rseq.

    A SPEC is as for `run --libc`; without one, all are listed. Nothing is downloaded.
    """
    require_platform()
    check_outputs([json_path])
    found = catalogue(specs)
    if json_path:
        emit(json_path, json.dumps({"schema": SCHEMA, "libcs": [asdict(libc) for libc in found]}, indent=1) + "\n")
        return
    console = report_console()
    for libc in found:
        _show(console, libc)
