"""A program that is started for the doctor: held where its own code begins, or followed to its end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import IO

from rseq_matrix._native import lib
from rseq_matrix.doctor.followed import END, LATE, Followed
from rseq_matrix.doctor.journey import Journey
from rseq_matrix.errors import InputError
from rseq_matrix.ptrace.scripts import script_plan
from rseq_matrix.ptrace.seize import living_tasks
from rseq_matrix.ptrace.start import Started, end_program, find_program, start_traced
from rseq_matrix.ptrace.tasks import is_process, lives
from rseq_matrix.signals import undisturbed

START_LIMIT = 10.0
"""Seconds until the program's own code begins."""
LAST_LOOK = 0.5
"""Seconds in which threads stop, when the time is up; one that sleeps in the kernel does not."""
OUTPUT = 1 << 16


def _look_at_the_rest(journey: Journey) -> None:
    """Look at the threads of a program whose time is up. Its children go on meanwhile: vfork's hold their parent."""
    started = journey.started
    wanted = set(living_tasks(started.pid)) - started.still
    for tid in wanted:
        lib.rsm_trace_interrupt(tid)
    for tid, stop in journey.stops(LAST_LOOK):
        if tid in wanted:
            started.note_stop(tid, stop)
            journey.onlooker.look(tid)
            wanted.discard(tid)
        else:
            journey.step(tid, stop)
            journey.go_on(tid, stop)
        if not wanted:
            return


def _travel(journey: Journey, limit: float) -> None:
    started, found = journey.started, journey.found
    for tid, stop in journey.stops(limit):
        moment = journey.step(tid, stop)
        found = journey.found  # another, if the program has become another
        if moment:
            found.moment = moment
            started.note_stop(tid, stop)
            break
        journey.go_on(tid, stop)
    else:
        _when_nothing_stops(journey, limit)
    if found.moment == END:
        found.left = sum(map(is_process, set(started.owed) - {started.pid}))


def _when_nothing_stops(journey: Journey, limit: float) -> None:
    """Say why no stop comes any more: the program has ended, or the time is up."""
    found = journey.found
    if not lives(journey.started.pid):
        found.moment = END
    elif found.moment == LATE:
        found.exit_status = found.killed_by = None  # a thread's
        _look_at_the_rest(journey)
    else:
        raise InputError(f"{journey.plan.path}: its own code has not begun within {limit:g} seconds")


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
    the_plan = script_plan(find_program(argv[0]))
    with tempfile.TemporaryFile() as output:
        started = Started(0)
        journey = Journey(started, the_plan, whole)
        try:
            with undisturbed():
                started.pid = start_traced(the_plan.path, argv, os.environ, output.fileno())
                started.owed[started.pid] = 0
            _travel(journey, limit)
        finally:
            with undisturbed():
                journey.onlooker.forget()
                if started.pid:
                    end_program(started)
        journey.found.output = _text(output)
    return journey.found
