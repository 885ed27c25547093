"""`rseq-matrix verify`."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from rseq_matrix.commands.output import STANDARD_OUTPUT, Seconds, check_outputs, emit, report_console, waiting_for
from rseq_matrix.documents.plain import to_json
from rseq_matrix.environments.catalogue import ENVIRONMENTS
from rseq_matrix.errors import EXIT_AS_EXPECTED, EXIT_DIFFERENT, InterruptedRunError, MissingError
from rseq_matrix.model.results import PASS, UNSUPPORTED
from rseq_matrix.report.verification import show_subject, show_verification
from rseq_matrix.verify.stages import ADDS, DEFAULT_ENVIRONMENTS
from rseq_matrix.verify.verification import PHASES, SECONDS, Document, Verification, Wanted


def _drive(verification: Verification, console: Console) -> bool:
    """Run it with a progress bar where somebody watches. Returns False if it was interrupted."""
    columns = (TextColumn("{task.description:28}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    watched = Console(stderr=True)
    total = len(verification.subjects) * len(verification.phases)
    with Progress(*columns, console=watched, transient=True, disable=not watched.is_terminal) as progress:
        task = progress.add_task("starting", total=total)

        def tell(subject: str, phase: str, part: float) -> None:
            place = [s.name for s in verification.subjects].index(subject) * len(verification.phases)
            done = place + verification.phases.index(phase) + part
            progress.update(task, completed=done, description=f"{subject} {phase}"[:28])

        try:
            for judged in verification.go(tell):
                show_subject(console, judged.document())
        except KeyboardInterrupt:
            return False
    return True


def _exit_code(document: Document) -> int:
    words = {subject["result"] for subject in document["subjects"]}
    if words == {UNSUPPORTED}:
        return MissingError.exit_code
    return EXIT_AS_EXPECTED if words in ({PASS}, {PASS, UNSUPPORTED}) else EXIT_DIFFERENT


@click.command()
@click.argument("globs", nargs=-1, metavar="[STAGE-GLOB]...")
@click.option("--subject", "subjects", multiple=True, metavar="NAME|PATH.so", help="split, atomic, list, or a file.")
@click.option(
    "--seconds",
    type=Seconds(min=0.1, max=86400),
    default=SECONDS,
    show_default=True,
    metavar="S",
    help="How long each subject is under stress, at least.",
)
@click.option("--phase", "phases", multiple=True, metavar="NAME", help=f"Only these: {', '.join(PHASES)}.")
@click.option(
    "--environment",
    "environments",
    multiple=True,
    metavar="NAME",
    help=f"Where the stages are: all, {', '.join(ENVIRONMENTS)}.  [default: {', '.join(DEFAULT_ENVIRONMENTS)}]",
)
@click.option("--adds", type=click.IntRange(min=2), default=ADDS, show_default=True, help="Operations at each stage.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the whole result; '-' is stdout.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Processes side by side in the stages.")
def verify(
    globs: tuple[str, ...],
    subjects: tuple[str, ...],
    seconds: float,
    phases: tuple[str, ...],
    environments: tuple[str, ...],
    adds: int,
    json_path: Path | None,
    jobs: int | None,
) -> None:
    """Prove that a library's per-CPU work loses nothing, with rseq and without: the built-in subjects, or your own.

    A subject is a shared object that exports the two functions of csrc/subject.h. It works at every stage of the matrix
    (or those that the globs name), is interrupted at every instruction, single-stepped, and put under stress.

    Exit status: 0 nothing is wrong; 1 something is; 4 a subject's file cannot be used.
    """
    started = time.monotonic()
    console = report_console(stderr=check_outputs([json_path]))
    with ExitStack() as stack:
        with waiting_for("building the subjects"):
            wanted = Wanted(subjects, globs, phases, environments, seconds, adds, jobs or 0)
            verification = Verification(wanted, stack)
        finished = _drive(verification, console)
        document = verification.document()
    if json_path:
        emit(json_path, to_json(document))
    if json_path != STANDARD_OUTPUT:
        show_verification(console, document, time.monotonic() - started)
    if not finished:
        raise InterruptedRunError("interrupted; the phases that were finished are kept")
    sys.stdout.flush()  # a full disk is to be said, not to be lost at exit
    sys.exit(_exit_code(document))
