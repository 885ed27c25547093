"""A program that is started for the doctor: stopped where its own code begins, or followed to its end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import IO

from rseq_matrix.doctor.followed import Followed
from rseq_matrix.doctor.journey import Journey
from rseq_matrix.documents.doctor import END, LATE
from rseq_matrix.errors import InputError
from rseq_matrix.layout.program import read_program_or_script
from rseq_matrix.ptrace.start import find_program
from rseq_matrix.ptrace.tasks import is_process, lives

START_LIMIT = 10.0
"""Seconds until the program's own code begins."""
LAST_LOOK = 0.5
"""Seconds in which threads stop, when the time is up; one that sleeps in the kernel does not."""
OUTPUT = 1 << 16


def _travel(journey: Journey, limit: float) -> None:
    moment = journey.run(limit)
    found = journey.found  # another than before, if the program has become another
    if moment:
        found.moment = moment
    elif not lives(journey.pid):
        found.moment = END
    elif found.moment == LATE:
        found.exit_status = found.killed_by = None  # a thread's
        for tracee in journey.stop_threads(LAST_LOOK):
            journey.look(tracee)
    else:
        raise InputError(f"{journey.program.path}: its own code has not begun within {limit:g} seconds")
    if found.moment == END:
        found.left = sum(map(is_process, set(journey.tasks) - {journey.pid}))


def _text(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read(OUTPUT).decode("utf-8", "replace")


def follow(argv: Sequence[str], whole: bool = False, limit: float = START_LIMIT) -> Followed:
    """Start a program, look at it where its own code begins or, if `whole`, follow it to its end or the time limit.

    It is ended then. Raises InputError for what is no program of this machine, MissingError where tracing is not
    allowed.
    """
    if not argv:
        raise InputError("no program was named")
    program = read_program_or_script(find_program(argv[0]))
    journey = Journey(program, whole)
    with tempfile.TemporaryFile() as output:
        try:
            with journey.started(program.path, argv, os.environ, output.fileno()):
                _travel(journey, limit)
        finally:
            journey.forget()
        journey.found.output = _text(output)
    return journey.found
