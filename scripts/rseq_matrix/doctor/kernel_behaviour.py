"""What the running kernel does with an rseq area, found by experiment in child processes, and its class.

The three classes, after Linux's Documentation/userspace-api/rseq.rst ("Optimized RSEQ V2") and what came before that:

legacy        the CPU number is written after every context switch and signal, changed or not (before Linux 6.19;
              from 7.0.10, stable backport of commit b9eac6a9d93c, for registrations of 32 bytes)
changed-only  it is written only when it changes (Linux 6.19 to 7.0.9, commit 566d8015f7ee)
v2            the same, and a program that overwrites it is killed; for registrations of more than 32 bytes only (from
              7.0.10, commits 82f572449cfe and 99428157dcf3)
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from rseq_matrix._native import lib
from rseq_matrix.build import Build
from rseq_matrix.doctor.helper_programs import HelperOutput, helper, run
from rseq_matrix.documents.doctor import (
    CHANGED_ONLY,
    LEGACY,
    V2,
    EventOutcomes,
    KernelBehaviour,
    LengthBehaviour,
    MembarrierBehaviour,
    SliceExtensions,
)
from rseq_matrix.documents.kernel import AnswerTable
from rseq_matrix.errors import MissingError
from rseq_matrix.kernels.host import Kernel, kernel
from rseq_matrix.signals import signal_name

REWRITTEN, KEPT, KILLED = "rewritten", "kept", "killed"
ORIGINAL = 32
"""Bytes of a registration that every kernel with rseq accepts (ORIG_RSEQ_SIZE)."""
MEMBARRIER_RSEQ = 1 << 7


def extended_length(running: Kernel) -> int:
    """Return a length above 32 that a libc would register: the feature size, rounded up to the alignment."""
    size, align = running.feature_size or ORIGINAL, running.align or ORIGINAL
    return max(-(-size // align) * align, 2 * ORIGINAL)


def length_behaviour(length: int, said: HelperOutput) -> LengthBehaviour:
    """Return how the registration of a length ended, and what happened to the overwritten field at each event."""
    killed = said.status < 0 and said.word("kernel", "done") is None
    fatal = said.word("kernel", "trying") if killed else None
    outcomes = (KILLED if name == fatal else said.word("kernel", name) for name in ("sleep", "signal", "migration"))
    events = EventOutcomes(*outcomes)
    cpu = said.number("kernel", "cpu_id")
    registered = cpu is not None and cpu >= 0
    return LengthBehaviour(
        length=length,
        answer=said.number("kernel", "answer"),
        control=said.number("kernel", "control"),
        registered=registered,
        events=events,
        killed_by=signal_name(-said.status) if killed else None,
        flags=said.number("kernel", "flags"),
        slice_get=said.number("kernel", "slice_get"),
        slice_set=said.number("kernel", "slice_set"),
        class_=_length_class(events) if registered else None,
    )


def _length_class(events: EventOutcomes) -> str | None:
    """Return the class of a length that was registered; None where the experiment does not show it."""
    if events.sleep is None:
        return None
    if KILLED in (events.sleep, events.signal, events.migration):
        return V2
    return {(REWRITTEN, REWRITTEN): LEGACY, (KEPT, KEPT): CHANGED_ONLY}.get((events.sleep, events.signal or ""))


def kernel_class(registrations: Sequence[LengthBehaviour]) -> str | None:
    """Return the class of the kernel: that of the longest registration that it accepts.

    Where migration could not be tried, one length whose field is kept and one whose field is rewritten are v2, too: no
    other kernel treats the two differently.
    """
    classes = [found.class_ for found in registrations if found.class_]
    if LEGACY in classes and CHANGED_ONLY in classes:
        return V2
    return classes[-1] if classes else None


def barrier_aborts(said: HelperOutput) -> bool | None:
    """Return whether the command aborts critical sections; None where not tried, or not more often than by chance."""
    hit, chance = said.number("barrier", "aborted_with"), said.number("barrier", "aborted_without")
    if not said.number("barrier", "rounds") or hit is None or chance is None:
        return None
    return hit > chance if hit > chance or not hit else None


def _membarrier(build: Build, running: Kernel) -> MembarrierBehaviour:
    said = run([helper(build, "barrier")])
    query = said.number("barrier", "query")
    return MembarrierBehaviour(
        offered=query is not None and query > 0 and bool(query & MEMBARRIER_RSEQ),
        answer=said.number("barrier", "command"),
        aborts=barrier_aborts(said) if running.has_rseq else None,
    )


def _slice_extensions(registrations: Sequence[LengthBehaviour]) -> SliceExtensions:
    """Return whether the kernel knows time slice extensions, and for which lengths it grants them."""
    known = [found for found in registrations if found.registered]
    return SliceExtensions(
        known=any((found.slice_get or 0) >= 0 for found in known) if known else None,
        lengths=tuple(found.length for found in known if found.slice_set == 0),
    )


def _answers() -> AnswerTable | None:
    """Return the table of the kernel's answers; None where it cannot be asked. Imported only where it is asked for."""
    answers = importlib.import_module("rseq_matrix.kernels.answers")
    features = importlib.import_module("rseq_matrix.kernels.features")
    try:
        table: AnswerTable = answers.answer_table(features.here())
    except MissingError:
        return None
    return table


def look_at_kernel(build: Build, with_answers: bool = False) -> KernelBehaviour:
    """Find out what the running kernel does. with_answers: also the table of its answers to all kinds of calls."""
    running = kernel()
    program = helper(build, "behaviour")
    lengths = (ORIGINAL, extended_length(running))
    registrations = tuple(length_behaviour(length, run([program, str(length)])) for length in lengths)
    return KernelBehaviour(
        release=running.release,
        machine=running.machine,
        rseq=running.rseq,
        refused_after_start=not running.has_rseq and bool(lib.rsm_native_believed()),
        feature_size=running.feature_size,
        align=running.align,
        class_=kernel_class(registrations),
        registrations=registrations,
        membarrier=_membarrier(build, running),
        slice_extension=_slice_extensions(registrations),
        answers=_answers() if with_answers else None,
    )
