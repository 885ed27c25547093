"""`rseq-matrix doctor`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from rseq_matrix.build import build
from rseq_matrix.commands.output import STANDARD_OUTPUT, Seconds, check_outputs, emit, report_console, waiting_for
from rseq_matrix.doctor.examination import examine_command, examine_host, examine_process
from rseq_matrix.documents.doctor import Examination
from rseq_matrix.documents.plain import to_json
from rseq_matrix.errors import EXIT_AS_EXPECTED, EXIT_DIFFERENT, UsageError
from rseq_matrix.kernels.host import kernel, require_platform
from rseq_matrix.report.doctor import show_doctor

RUN_LIMIT = 10.0


@dataclass(frozen=True)
class ExaminationRequest:
    """What the command line asks for."""

    command: tuple[str, ...]
    process: int | None
    whole: bool
    limit: float
    libraries: tuple[str, ...]
    everything: bool
    """Also the table of the kernel's answers."""

    def check(self) -> None:
        """Raise UsageError for options that cannot be combined."""
        if self.command and self.process is not None:
            raise UsageError("--process and a COMMAND cannot be combined")
        if (self.whole or self.libraries) and not self.command:
            raise UsageError(f"{'--run' if self.whole else '--loads'} needs a COMMAND: -- COMMAND [ARGUMENT]...")

    def examine(self) -> Examination:
        """Return the document."""
        require_platform()
        if self.process is not None:
            return examine_process(self.process)
        if self.command:
            return examine_command(self.command, self.whole, self.limit, self.libraries)
        # Under a filter that was installed after the start a new thread is fatal, and the progress display is a thread.
        with waiting_for("building the experiments") if kernel().has_rseq else nullcontext():
            made = build()
        return examine_host(made, self.everything)


@click.command()
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--process", type=int, metavar="PID", help="Examine the running process PID.")
@click.option("--run", "whole", is_flag=True, help="Follow COMMAND to its end.")
@click.option(
    "--time-limit",
    "limit",
    type=Seconds(min=0.01, max=86400),
    default=RUN_LIMIT,
    show_default=True,
    metavar="S",
    help="With --run: kill COMMAND after S seconds.",
)
@click.option(
    "--loads",
    "libraries",
    multiple=True,
    metavar="LIBRARY",
    help="Check whether COMMAND could load LIBRARY with dlopen(3): does its static TLS fit?",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the whole result as JSON; '-' is stdout."
)
@click.option("--verbose", is_flag=True, help="Show all experiments, findings and references.")
def doctor(
    command: tuple[str, ...],
    process: int | None,
    whole: bool,
    limit: float,
    libraries: tuple[str, ...],
    json_path: Path | None,
    verbose: bool,
) -> None:
    """Tell whether rseq works on this host, in a running process or in a program, what is wrong, and what to do.

    Without arguments, the kernel, libc and a small program that is started in this environment are examined. A COMMAND
    is started, stopped where its own code begins, and killed; with --run it runs to its end. A process is stopped for
    some milliseconds and goes on.

    Exit status: 0 healthy; 1 something is wrong; 3 a tool or permission is missing; 4 no such process or program.
    """
    request = ExaminationRequest(command, process, whole, limit, libraries, everything=verbose or json_path is not None)
    request.check()
    check_outputs([json_path])
    document = request.examine()
    if json_path:
        emit(json_path, to_json(document))
    if json_path != STANDARD_OUTPUT:
        show_doctor(report_console(), document, verbose)
    sys.stdout.flush()  # an error, as of a full disk, is reported here and not lost at exit
    sys.exit(EXIT_AS_EXPECTED if document.verdict.healthy else EXIT_DIFFERENT)
