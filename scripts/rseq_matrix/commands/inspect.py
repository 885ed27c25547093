"""`rseq-matrix inspect`: files and directories, or the static TLS of a process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rseq_matrix.commands.output import STANDARD_OUTPUT, check_outputs, emit, report_console
from rseq_matrix.documents.inspect import ERROR
from rseq_matrix.documents.plain import Json, to_json
from rseq_matrix.errors import (
    EXIT_AS_EXPECTED,
    EXIT_DIFFERENT,
    InputError,
    InterruptedRunError,
    UsageError,
)
from rseq_matrix.layout.picture import of_process, of_program
from rseq_matrix.lint.inspection import (
    SKIPPED,
    UNREADABLE,
    FileOutcome,
    InspectedFile,
    find,
    inspection_document,
    outcomes,
)
from rseq_matrix.lint.rules import RULES
from rseq_matrix.lint.surplus import DEFAULT, Surplus, parse_tunables
from rseq_matrix.report.inspect import show_details, show_rules, show_summary
from rseq_matrix.report.layout import show_layout, to_svg


@dataclass(frozen=True)
class InspectRequest:
    """What the command line asks for."""

    arguments: tuple[str, ...]
    process: int | None
    layout: bool
    rules: bool
    details: bool | None
    surplus: Surplus
    jobs: int | None
    json_path: Path | None
    svg_path: Path | None

    def _modes(self) -> list[str]:
        """Return the options that ask for something else than files."""
        asked = {"--process": self.process is not None, "--layout": self.layout, "--rules": self.rules}
        return [name for name, wanted in asked.items() if wanted]

    def check(self) -> None:
        """Raise UsageError for what does not go together or could not be written afterwards."""
        modes = self._modes()
        if len(modes) > 1:
            raise UsageError(f"{' and '.join(modes)} cannot be asked for together")
        if self.arguments and modes and not self.layout:
            raise UsageError(f"{modes[0]} takes no FILE")
        if not self.arguments and (self.layout or not modes):
            raise UsageError("--layout needs a PROGRAM" if self.layout else "name a FILE or a DIRECTORY to inspect")
        if self.svg_path and (self.rules or not modes):
            raise UsageError("--svg draws the picture that --process and --layout show")
        if check_outputs([self.json_path, self.svg_path]) and self.json_path == self.svg_path:
            raise UsageError("only one of --json - and --svg - can have standard output")

    @property
    def console(self) -> Console:
        """Return where a person reads: standard error where a machine has standard output."""
        return report_console(stderr=STANDARD_OUTPUT in (self.json_path, self.svg_path))


@click.command()
@click.argument("arguments", nargs=-1, metavar="[FILE|DIRECTORY]...")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write JSON to PATH; '-' is standard output."
)
@click.option(
    "--details/--summary",
    "details",
    default=None,
    help="Print everything about each file, or one line.  [default: details if there is one file]",
)
@click.option("--rules", is_flag=True, help="List the rules that are checked.")
@click.option(
    "--tunables",
    metavar="STRING",
    help="GLIBC_TUNABLES of the process that would load the file: they change its surplus of static TLS.",
)
@click.option("--process", type=int, metavar="PID", help="Draw the static TLS of a running process.")
@click.option(
    "--layout",
    is_flag=True,
    help="Draw the static TLS of a program, which is started and killed: --layout -- PROGRAM [ARGUMENT]...",
)
@click.option(
    "--svg", "svg_path", type=click.Path(path_type=Path), help="Also write the picture as SVG; '-' is standard output."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="How many files are read at a time.  [default: CPUs]"
)
def inspect(
    arguments: tuple[str, ...],
    json_path: Path | None,
    details: bool | None,
    rules: bool,
    tunables: str | None,
    process: int | None,
    layout: bool,
    svg_path: Path | None,
    jobs: int | None,
) -> None:
    """Inspect ELF files: can they be used with rseq in early and late code?

    A FILE is a program or shared object for x86-64, i386, aarch64, arm, ppc64le, s390x or riscv64; of a DIRECTORY, all
    such files below it are inspected. With --process or --layout no file is inspected: the static TLS of each thread is
    read from memory and drawn, with the rseq area.

    Exit status: 0 no finding is an error; 1 one is; 4 a FILE cannot be read (in a DIRECTORY it is only reported).
    """
    surplus = DEFAULT if tunables is None else parse_tunables(tunables)
    request = InspectRequest(arguments, process, layout, rules, details, surplus, jobs, json_path, svg_path)
    request.check()
    if rules:
        _list_rules(request)
    elif process is not None or layout:
        _draw(request)
    else:
        _inspect_files(request)


def _list_rules(request: InspectRequest) -> None:
    if request.json_path:
        document = {"schema": 1, "rules": [asdict(rule) for rule in RULES.values()]}
        emit(request.json_path, json.dumps(document, indent=1) + "\n")
    else:
        show_rules(request.console, RULES)


def _draw(request: InspectRequest) -> None:
    picture = of_program(request.arguments) if request.process is None else of_process(request.process)
    document = picture.document()
    if request.json_path:
        emit(request.json_path, to_json(document))
    if request.svg_path:
        emit(request.svg_path, to_svg(document))
    if STANDARD_OUTPUT not in (request.json_path, request.svg_path):
        show_layout(request.console, document)
    _finish(finding.severity for finding in document.findings)


def _finish(severities: Iterable[str]) -> None:
    sys.stdout.flush()  # a full disk is to be said, not to be lost at exit
    sys.exit(EXIT_DIFFERENT if ERROR in severities else EXIT_AS_EXPECTED)


# --- files


def _inspect_files(request: InspectRequest) -> None:
    targets = find(request.arguments)
    if not targets:
        raise InputError(f"{', '.join(request.arguments)}: no ELF program or shared object is below")
    found: list[FileOutcome] = []
    try:
        _read(request, targets, found)
    except KeyboardInterrupt:
        _report(request, inspection_document(found, complete=False))
        raise InterruptedRunError(f"interrupted; {len(found)} of {len(targets)} files were inspected") from None
    document = inspection_document(found)
    _report(request, document)
    refused = [outcome.document for outcome in found if outcome.target.named and outcome.kind == UNREADABLE]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise InputError(f"{refused[0]['path']}: {refused[0]['reason']}{more}")
    if not document["files"]:
        raise InputError(f"{', '.join(request.arguments)}: none of its {len(found)} ELF files could be inspected")
    _finish(finding["severity"] for file in document["files"] for finding in file["findings"])


def _read(request: InspectRequest, targets: Sequence[InspectedFile], found: list[FileOutcome]) -> None:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    watched = console.is_terminal and len(targets) > 1
    # Drawn when a file is done, and not by a thread: the workers are forked.
    with Progress(*columns, console=console, transient=True, disable=not watched, auto_refresh=False) as progress:
        task = progress.add_task("", total=len(targets))
        for outcome in outcomes(targets, request.surplus, request.jobs or len(os.sched_getaffinity(0))):
            found.append(outcome)
            progress.update(task, advance=1, description=Path(outcome.target.path).name[:40], refresh=True)


def _report(request: InspectRequest, document: Json) -> None:
    if request.json_path:
        emit(request.json_path, to_json(document))
    if request.json_path == STANDARD_OUTPUT:
        return
    single = len(document["files"]) + len(document[UNREADABLE]) + len(document[SKIPPED]) == 1
    if single if request.details is None else request.details:
        show_details(request.console, document)
    if not single:
        show_summary(request.console, document, RULES)
