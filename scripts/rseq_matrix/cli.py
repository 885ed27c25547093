"""The command line. The only place that catches errors, prints and chooses exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rseq_matrix import __version__
from rseq_matrix.campaign import Campaign, Wanted
from rseq_matrix.document import Document, check_writable, to_json, write_text
from rseq_matrix.errors import (
    EXIT_AS_EXPECTED,
    EXIT_DIFFERENT,
    InterruptedRunError,
    MissingError,
    RseqMatrixError,
    UsageError,
)
from rseq_matrix.journal import Journal
from rseq_matrix.judge import ERROR, FAIL, UNSUPPORTED, XPASS
from rseq_matrix.registry import STAGES
from rseq_matrix.report.junit import to_junit
from rseq_matrix.report.table import show_hazards, show_problems, show_stages, show_summary, show_tables
from rseq_matrix.report.tap import to_tap
from rseq_matrix.run import TIME_LIMIT, Options

STANDARD_OUTPUT = Path("-")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rseq-matrix")
def command() -> None:
    """Where are restartable sequences usable? Every early and late place in a process's life, on this glibc and kernel.

    Exit status: 0 all as expected; 1 something differs; 2 usage; 3 a tool or feature is missing; 4 bad input file;
    5 interrupted.
    """


def _emit(path: Path, text: str) -> None:
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_text(path, text)


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
        for path in paths:
            if path != STANDARD_OUTPUT:
                check_writable(path)

    def write(self, document: Document) -> None:
        """Write what was asked for."""
        if self.json_path:
            _emit(self.json_path, to_json(document))
        if self.junit_path:
            _emit(self.junit_path, to_junit(document))
        if self.tap:
            _emit(STANDARD_OUTPUT, to_tap(document))


def _drive(campaign: Campaign, resume: bool) -> bool:
    """Run it with a progress bar where somebody watches. Returns False if it was interrupted."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    cells = len(campaign.cells)
    with Journal(campaign.identity(), resume) as journal:
        try:
            with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task("starting", total=cells)
                for process in campaign.go(journal):
                    progress.update(task, advance=len(process.cells), description=f"{process.link} {process.scenario}")
        except KeyboardInterrupt:
            return False
        journal.discard()
    return True


def _exit_code(document: Document) -> int:
    summary = document["summary"]
    if not document["cells"] or any(summary[word] for word in (FAIL, ERROR, XPASS)):
        return EXIT_DIFFERENT
    return MissingError.exit_code if summary[UNSUPPORTED] == len(document["cells"]) else EXIT_AS_EXPECTED


def _show(document: Document, seconds: float, tables: bool, stdout_taken: bool) -> None:
    console = Console(stderr=stdout_taken)
    if tables and document["cells"]:
        show_tables(console, document)
        show_hazards(console, document)
    show_problems(console, document)
    show_summary(console, document, seconds)


@command.command()
@click.argument("globs", nargs=-1, metavar="[CELL-GLOB]...")
@click.option("--libc", "libcs", multiple=True, metavar="SPEC", help="libc to run on; this version knows 'system'.")
@click.option("--link", "links", multiple=True, metavar="LINK", help="dynamic-lazy, dynamic-now, static, static-pie.")
@click.option("--environment", "environments", multiple=True, metavar="NAME", help="default, tunable-off.")
@click.option("--oracle/--no-oracle", default=True, help="Ask the kernel through ptrace, too.  [default: oracle]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the whole result; '-' is stdout.")
@click.option("--junit", "junit_path", type=click.Path(path_type=Path), help="Write JUnit XML; '-' is stdout.")
@click.option("--tap", is_flag=True, help="Print TAP 13 on standard output.")
@click.option("--table/--no-table", default=None, help="Show the tables.  [default: if stdout is a terminal]")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes side by side.  [default: CPUs]")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0.01, max=86400),
    default=TIME_LIMIT,
    show_default=True,
    metavar="S",
    help="Seconds that one process may take.",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run of the same cells.")
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
    """Run the matrix, or the cells that the globs name, on the system's glibc.

    A CELL-GLOB is a stage ('ifunc.*') or a cell id ('host/*/dynamic-now/*/ifunc.*').
    """
    started = time.monotonic()
    outputs = Outputs(json_path, junit_path, tap)
    outputs.check()
    options = Options(traced=oracle, jobs=jobs or 0, time_limit=time_limit)
    with Console(stderr=True).status("building the probes") as status:
        if not sys.stderr.isatty():
            status.stop()
        campaign = Campaign(Wanted(globs, libcs, links, environments, options, resume))
    finished = _drive(campaign, resume)
    document = campaign.document()
    outputs.write(document)
    tables = sys.stdout.isatty() and not outputs.own_stdout if table is None else table
    _show(document, time.monotonic() - started, tables, outputs.own_stdout)
    if not finished:
        raise InterruptedRunError("interrupted; what was finished is kept: go on with --resume")
    sys.stdout.flush()  # a full disk is to be said, not to be lost at exit
    sys.exit(_exit_code(document))


@command.command()
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the list as JSON; '-' is stdout.")
def stages(json_path: Path | None) -> None:
    """List the stages: when each comes, what fires it, what may be used there."""
    if json_path:
        rows = [{"stage": stage.name, **asdict(stage)} for stage in STAGES.values()]
        _emit(json_path, json.dumps({"schema": 1, "stages": rows}, indent=1) + "\n")
    else:
        show_stages(Console())


def _end(code: int, message: str = "") -> NoReturn:
    if message:
        print(f"rseq-matrix: {message}", file=sys.stderr)
    sys.exit(code)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _silence() -> None:
    """Let nothing more be written to standard output: nobody reads it, or it is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main() -> NoReturn:
    """Run the command line and turn every error into one sentence and its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as a caller may have left it, no child could be waited for
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    try:
        command.main(prog_name="rseq-matrix", standalone_mode=False)
        sys.stdout.flush()
    except RseqMatrixError as error:
        _end(error.exit_code, str(error))
    except click.ClickException as error:
        _end(UsageError.exit_code, error.format_message())
    except (KeyboardInterrupt, click.Abort):
        _end(InterruptedRunError.exit_code, "interrupted before anything was finished")
    except BrokenPipeError:
        _silence()
        _end(EXIT_DIFFERENT)
    except OSError as error:
        _silence()
        where = f" ({error.filename})" if error.filename else ""
        _end(UsageError.exit_code, f"cannot write or use a file: {error.strerror or error}{where}")
    sys.exit(EXIT_AS_EXPECTED)
