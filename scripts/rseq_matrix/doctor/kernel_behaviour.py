"""What the running kernel does with an rseq area, found out in child processes; and what that is called.

The three classes, after Linux's Documentation/userspace-api/rseq.rst ("Optimized RSEQ V2") and what came before that:

legacy        the CPU number is written again after every context switch and signal, changed or not (before Linux 6.19;
              from 7.0.10, stable backport of commit b9eac6a9d93c, for registrations of 32 bytes)
changed-only  it is written only when it changes (Linux 6.19 to 7.0.9, commit 566d8015f7ee)
v2            so, and who overwrites it is killed: registrations of more than 32 bytes (from 7.0.10, commits
              82f572449cfe and 99428157dcf3)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rseq_matrix._native import lib
from rseq_matrix.build import Build
from rseq_matrix.doctor.lines import Spoken, helper, run
from rseq_matrix.documents.kernel import AnswerTable
from rseq_matrix.errors import MissingError
from rseq_matrix.kernels.answers import answer_table
from rseq_matrix.kernels.features import here
from rseq_matrix.kernels.host import Kernel, kernel
from rseq_matrix.signals import signal_name

Document = dict[str, Any]

LEGACY, CHANGED_ONLY, V2 = "legacy", "changed-only", "v2"
REWRITTEN, KEPT, KILLED = "rewritten", "kept", "killed"
EVENTS = ("sleep", "signal", "migration")
ORIGINAL = 32
"""Bytes of a registration that every kernel with rseq accepts (ORIG_RSEQ_SIZE)."""
SLICE_AVAILABLE = 1 << 4
MEMBARRIER_RSEQ = 1 << 7


def extended_length(running: Kernel) -> int:
    """Return a length above 32 that a libc would register: the feature size, rounded up to the alignment."""
    size, align = running.feature_size or ORIGINAL, running.align or ORIGINAL
    return max(-(-size // align) * align, 2 * ORIGINAL)


def registration_document(length: int, spoken: Spoken) -> Document:
    """Return what a registration of a length was answered, and what became of the overwritten field at each event."""
    events: dict[str, str | None] = {name: spoken.word("kernel", name) for name in EVENTS}
    killed = spoken.status < 0 and spoken.word("kernel", "done") is None
    trying = spoken.word("kernel", "trying")
    if killed and trying in events:
        events[trying] = KILLED
    cpu = spoken.number("kernel", "cpu_id")
    return {
        "length": length,
        "answer": spoken.number("kernel", "answer"),
        "control": spoken.number("kernel", "control"),
        "registered": cpu is not None and cpu >= 0,
        "events": events,
        "killed_by": signal_name(-spoken.status) if killed else None,
        "flags": spoken.number("kernel", "flags"),
        "slice_get": spoken.number("kernel", "slice_get"),
        "slice_set": spoken.number("kernel", "slice_set"),
    }


def length_class(registration: Document) -> str | None:
    """Return the class of one length; None where it was not registered or the experiment does not tell."""
    events = registration["events"]
    if not registration["registered"] or events["sleep"] is None:
        return None
    if KILLED in events.values():
        return V2
    if events["sleep"] == REWRITTEN and events["signal"] == REWRITTEN:
        return LEGACY
    return CHANGED_ONLY if events["sleep"] == KEPT and events["signal"] == KEPT else None


def kernel_class(registrations: Sequence[Document]) -> str | None:
    """Return the class of the kernel: that of the longest registration that it accepts.

    Where a move to another CPU could not be tried, a length that is kept beside one that is rewritten tells v2, too:
    no other kernel treats the two differently.
    """
    classes = [found for found in map(length_class, registrations) if found]
    if LEGACY in classes and CHANGED_ONLY in classes:
        return V2
    return classes[-1] if classes else None


def barrier_aborts(spoken: Spoken) -> bool | None:
    """Return whether sections were aborted by the command; None where not tried, or not more often than by chance."""
    hit, chance = spoken.number("barrier", "aborted_with"), spoken.number("barrier", "aborted_without")
    if not spoken.number("barrier", "rounds") or hit is None or chance is None:
        return None
    return hit > chance if hit > chance or not hit else None


def _membarrier(build: Build, running: Kernel) -> Document:
    spoken = run([helper(build, "barrier")])
    query, command = spoken.number("barrier", "query"), spoken.number("barrier", "command")
    return {
        "offered": query is not None and query > 0 and bool(query & MEMBARRIER_RSEQ),
        "answer": command,
        "aborts": barrier_aborts(spoken) if running.has_rseq else None,
    }


def _slice_extension(registrations: Sequence[Document]) -> Document:
    """Say of time slice extensions whether the kernel has them, and for which lengths a thread may have them."""
    known = [found for found in registrations if found["registered"]]
    return {
        "known": any((found["slice_get"] or 0) >= 0 for found in known) if known else None,
        "lengths": [found["length"] for found in known if found["slice_set"] == 0],
    }


def _answers() -> AnswerTable | None:
    """Return what this kernel answers to every length, alignment and signature; None where it cannot be asked."""
    try:
        return answer_table(here())
    except MissingError:
        return None


def look_at_kernel(build: Build, with_answers: bool = False) -> Document:
    """Find out what the running kernel does. with_answers: also what it answers to all kinds of calls."""
    running = kernel()
    program = helper(build, "behaviour")
    lengths = (ORIGINAL, extended_length(running))
    registrations = [registration_document(length, run([program, str(length)])) for length in lengths]
    return {
        "release": running.release,
        "machine": running.machine,
        "rseq": running.rseq,
        "refused_after_start": not running.has_rseq and bool(lib.rsm_native_believed()),
        "feature_size": running.feature_size,
        "align": running.align,
        "class": kernel_class(registrations),
        "registrations": [{**found, "class": length_class(found)} for found in registrations],
        "membarrier": _membarrier(build, running),
        "slice_extension": _slice_extension(registrations),
        "answers": _answers() if with_answers else None,
    }
