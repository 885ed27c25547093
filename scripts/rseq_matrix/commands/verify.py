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
from rseq_matrix.documents.verify import PHASES, VerifyDocument, VerifyRequest
from rseq_matrix.environments.catalogue import ENVIRONMENTS
from rseq_matrix.errors import EXIT_AS_EXPECTED, EXIT_DIFFERENT, InterruptedRunError, MissingError
from rseq_matrix.model.results import PASS, UNSUPPORTED
from rseq_matrix.report.verify import show_subject, show_verification
from rseq_matrix.verify.at_stages import DEFAULT_ENVIRONMENTS
from rseq_matrix.verify.verification import Verification


def _drive(verification: Verification, console: Console) -> bool:
    """Run it with a progress bar on a terminal. Returns False if it was interrupted."""
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


def _exit_code(document: VerifyDocument) -> int:
    words = {subject.result for subject in document.subjects}
    if words == {UNSUPPORTED}:
        return MissingError.exit_code
    return EXIT_AS_EXPECTED if words in ({PASS}, {PASS, UNSUPPORTED}) else EXIT_DIFFERENT


PHASE_LIST = "\n".join(f"  {name:14} {what}" for name, what in PHASES.items())
HELP = f"""Check that a library's per-CPU operations take effect exactly once, with rseq and without.

The library that is checked is called the subject: a shared object that exports rsm_subject_add() and rsm_subject_sum(),
which add to a counter and return its sum. It may export more (csrc/subject.h). Without --subject the built-in ones are
checked: split (per-CPU counters with critical sections, and atomics as the fallback), atomic (atomics alone) and list
(per-CPU stacks).

A subject goes through these phases:

\b
{PHASE_LIST}

The report has a line for each phase, each defect in words, and the totals of the subject.

Exit status: 0 nothing is wrong; 1 a defect was found, or a phase could not do its work; 2 usage error; 3 the machine
lacks what every phase needs; 4 the file of a subject cannot be used; 5 interrupted.
"""


@click.command(help=HELP)
@click.argument("globs", nargs=-1, metavar="[STAGE-GLOB]...")
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    metavar="NAME|PATH.so",
    help="A built-in subject (split, atomic or list), or the file of another.",
)
@click.option(
    "--seconds",
    type=Seconds(min=0.1, max=86400),
    default=VerifyRequest.seconds,
    show_default=True,
    metavar="S",
    help="Duration of the phase stress for each subject, at least.",
)
@click.option("--phase", "phases", multiple=True, metavar="NAME", help="Only this phase; can be repeated.")
@click.option(
    "--environment",
    "environments",
    multiple=True,
    metavar="NAME",
    help="An environment of the phase stages; can be repeated: all, "
    f"{', '.join(ENVIRONMENTS)}.  [default: {', '.join(DEFAULT_ENVIRONMENTS)}]",
)
@click.option(
    "--adds",
    type=click.IntRange(min=2),
    default=VerifyRequest.adds,
    show_default=True,
    metavar="N",
    help="Calls of rsm_subject_add() at each stage.",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write JSON to this file; '-' is standard output."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes of the phase stages that run at once.",
)
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
    """Check the built-in subjects, or those that are named."""
    started = time.monotonic()
    console = report_console(stderr=check_outputs([json_path]))
    with ExitStack() as stack:
        with waiting_for("building the subjects"):
            request = VerifyRequest(subjects, globs, phases, environments, seconds, adds, jobs or 0)
            verification = Verification(request, stack)
        finished = _drive(verification, console)
        document = verification.document()
    if json_path:
        emit(json_path, to_json(document))
    if json_path != STANDARD_OUTPUT:
        show_verification(console, document, time.monotonic() - started)
    if not finished:
        raise InterruptedRunError("interrupted; the results of the phases that were finished are kept")
    sys.stdout.flush()  # an error, as of a full disk, is reported here and not lost at exit
    sys.exit(_exit_code(document))
