"""`rseq-matrix run`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rseq_matrix.commands.output import STANDARD_OUTPUT, Seconds, check_outputs, emit, report_console, waiting_for
from rseq_matrix.documents.plain import to_json
from rseq_matrix.documents.run import RunDocument
from rseq_matrix.environments.catalogue import ENVIRONMENTS
from rseq_matrix.errors import EXIT_AS_EXPECTED, EXIT_DIFFERENT, InterruptedRunError, MissingError, UsageError
from rseq_matrix.matrix.campaign import Campaign, Wanted
from rseq_matrix.matrix.journal import Journal
from rseq_matrix.matrix.runner import TIME_LIMIT, Options
from rseq_matrix.model.results import ERROR, FAIL, UNSUPPORTED, XPASS
from rseq_matrix.report.junit import to_junit
from rseq_matrix.report.table import show_hazards, show_problems, show_summary, show_tables
from rseq_matrix.report.tap import to_tap


@dataclass(frozen=True)
class Outputs:
    """Where the document is to be written for machines; "-" and TAP are standard output."""

    json_path: Path | None
    junit_path: Path | None
    tap: bool

    @property
    def own_stdout(self) -> bool:
        """Return whether a machine reads standard output."""
        return self.tap or STANDARD_OUTPUT in (self.json_path, self.junit_path)

    def check(self) -> None:
        """Raise UsageError now for what could not be written after the run."""
        paths = [path for path in (self.json_path, self.junit_path) if path]
        if paths.count(STANDARD_OUTPUT) + self.tap > 1:
            raise UsageError("only one of --json -, --junit - and --tap can have standard output")
        check_outputs(paths)

    def write(self, document: RunDocument) -> None:
        """Write what was asked for."""
        if self.json_path:
            emit(self.json_path, to_json(document))
        if self.junit_path:
            emit(self.junit_path, to_junit(document))
        if self.tap:
            emit(STANDARD_OUTPUT, to_tap(document))


def _drive(campaign: Campaign, resume: bool) -> bool:
    """Run it, with a progress bar on a terminal. Returns False if it was interrupted."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:36}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    cells = sum(len(process.cells) for process in campaign.processes)
    with Journal(campaign.identity(), resume) as journal:
        try:
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("starting", total=cells)
                for process in campaign.go(journal):
                    what = f"{process.libc} {process.link} {process.scenario}"
                    progress.update(task, advance=len(process.cells), description=what)
        except KeyboardInterrupt:
            return False
        journal.discard()
    return True


def _exit_code(document: RunDocument) -> int:
    summary = document.summary
    if not document.cells or any(summary[word] for word in (FAIL, ERROR, XPASS)):
        return EXIT_DIFFERENT
    return MissingError.exit_code if summary[UNSUPPORTED] == len(document.cells) else EXIT_AS_EXPECTED


def _show(document: RunDocument, seconds: float, tables: bool, stdout_taken: bool) -> None:
    console = report_console(stderr=stdout_taken)
    if tables and document.cells:
        show_tables(console, document)
        show_hazards(console, document)
    show_problems(console, document)
    show_summary(console, document, seconds)


@click.command()
@click.argument("globs", nargs=-1, metavar="[CELL-GLOB]...")
@click.option(
    "--libc",
    "libcs",
    multiple=True,
    metavar="SPEC",
    help="system, all, a name like glibc-2.31, or a directory.  [default: system]",
)
@click.option(
    "--link",
    "links",
    multiple=True,
    metavar="LINK",
    help="How the programs are linked: dynamic-lazy, dynamic-now, static, static-pie.  [default: all]",
)
@click.option(
    "--environment",
    "environments",
    multiple=True,
    metavar="NAME",
    help=f"What the processes are run in or under: all, {', '.join(ENVIRONMENTS)}.  [default: default]",
)
@click.option(
    "--oracle/--no-oracle",
    default=True,
    help="Also ask the second oracle (witness of what the kernel has registered): ptrace(2).  [default: oracle]",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write JSON to PATH; '-' is standard output."
)
@click.option(
    "--junit", "junit_path", type=click.Path(path_type=Path), help="Write JUnit XML to PATH; '-' is standard output."
)
@click.option("--tap", is_flag=True, help="Print TAP 13 on standard output.")
@click.option("--table/--no-table", default=None, help="Print the tables.  [default: on a terminal]")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="How many processes run at a time.  [default: CPUs]"
)
@click.option(
    "--time-limit",
    type=Seconds(min=0.01, max=86400),
    default=TIME_LIMIT,
    show_default=True,
    metavar="S",
    help="Kill a process after S seconds.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run of the same cells.")
def run(
    globs: tuple[str, ...],
    libcs: tuple[str, ...],
    links: tuple[str, ...],
    environments: tuple[str, ...],
    oracle: bool,
    json_path: Path | None,
    junit_path: Path | None,
    tap: bool,
    table: bool | None,
    jobs: int | None,
    time_limit: float,
    resume: bool,
) -> None:
    """Run the cells of the matrix and print, for each, whether rseq can be used there, why, and what differs.

    A cell is one stage (a place in the life of a process where code runs) under one libc, link and environment. A
    CELL-GLOB is a stage ('ifunc.*') or a cell id ('host/*/dynamic-now/*/ifunc.*'); without one, all stages are run.
    Without --libc, the second part of a cell id names the libcs: '*' is the system's alone, any other pattern
    ('glibc-2.4*') is every libc of the system and of `all` that it matches.
    """
    started = time.monotonic()
    outputs = Outputs(json_path, junit_path, tap)
    outputs.check()
    options = Options(traced=oracle, jobs=jobs or 0, time_limit=time_limit)
    with waiting_for("building the probes") as status:
        campaign = Campaign(Wanted(globs, libcs, links, environments, options, resume), status.update)
    finished = _drive(campaign, resume)
    document = campaign.document()
    outputs.write(document)
    tables = sys.stdout.isatty() and not outputs.own_stdout if table is None else table
    _show(document, time.monotonic() - started, tables, outputs.own_stdout)
    if not finished:
        raise InterruptedRunError("interrupted; what was finished is kept: continue with --resume")
    sys.stdout.flush()  # an error, as of a full disk, is reported here and not lost at exit
    sys.exit(_exit_code(document))
