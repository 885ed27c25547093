"""What is in the areas: a CPU number that stands still or was overwritten, or no memory any more."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.doctor.findings.conditions import dead_threads
from rseq_matrix.doctor.findings.vocabulary import CHANGED_RULES, MANUAL, OFF, TCMALLOC, V2_RULES, listed, suspects
from rseq_matrix.documents.doctor import (
    CHANGED_ONLY,
    ERROR,
    GLIBC,
    LEGACY,
    NONE,
    OTHER,
    V2,
    DoctorFinding,
    Examined,
    ExaminedThread,
)


def dead_or_stale(document: Examined) -> Iterator[DoctorFinding]:
    """The registration was a success, and the CPU number stands still."""
    dead = dead_threads(document)
    stale = [t for t in document.threads if t.believed and t.owner == NONE and t not in dead]
    if dead:
        yield DoctorFinding(
            "registration-dead",
            ERROR,
            f"rseq looks registered in {listed(dead)}: the call was answered with success. But the CPU number in its "
            "area stays the same, also when the thread moves to another CPU: whoever trusts it works on another CPU's "
            f"data, without any message{suspects(document)}",
            f"Find who fakes the registration (a preloaded library, a filter, an emulator); until then, {OFF}",
            f"{MANUAL}; rseq(2)",
        )
    if stale:
        yield DoctorFinding(
            "registration-stale",
            ERROR,
            f"rseq looks registered in {listed(stale)}, and the kernel has nothing registered there: the CPU number in "
            "its area stands still, nothing restarts interrupted code, and data are corrupted without any message",
            "Such a thread (made with raw clone(), or unregistered behind glibc's back) must not run rseq code",
            f"{MANUAL}; rseq(2)",
        )


def overwritten(document: Examined) -> Iterator[DoctorFinding]:
    """Somebody but the kernel has written the ids."""
    registered = [thread for thread in document.threads if thread.owner in (GLIBC, OTHER)]
    seen = [found.object for found in document.writes] if registered else []
    wrong = [thread for thread in registered if _ids_differ(thread)]
    if not seen and not wrong:
        return
    who = f"by {', '.join(seen)}" if seen else f"in {listed(wrong)} (it differs from cpu_id beside it)"
    class_ = document.kernel.class_ if document.kernel else None
    after = {
        LEGACY: "This kernel writes it anew at every switch, so that it works here; on Linux 6.19 to 7.0.9 it stays "
        "wrong, and from 7.0.10 the program is killed (SIGSEGV) if its area is longer than 32 bytes",
        CHANGED_ONLY: "This kernel does not repair it before the thread moves: until then everybody reads a wrong CPU",
        V2: "This kernel kills the program for it (SIGSEGV) if its area is longer than 32 bytes",
    }.get(
        class_ or "",
        "Linux before 6.19 repairs that, later ones do not, or even kill the program for it: `rseq-matrix doctor` says "
        "what this kernel does",
    )
    yield DoctorFinding(
        "ids-overwritten",
        ERROR,
        f"The CPU number that only the kernel may write (cpu_id_start and cpu_id in the rseq area) is overwritten "
        f"{who}. {after}",
        f"Update that library; if it must do so (tcmalloc's caches do), start with {OFF} so that it has its own area",
        f"{V2_RULES}; {CHANGED_RULES}; {TCMALLOC}",
    )


def _ids_differ(thread: ExaminedThread) -> bool:
    cpu, start = thread.cpu_id, thread.cpu_id_start
    return cpu is not None and cpu >= 0 and start is not None and start != cpu


def unmapped(document: Examined) -> Iterator[DoctorFinding]:
    """The memory of a registered area is not there any more."""
    gone = [thread for thread in document.threads if thread.lost_area]
    if gone:
        yield DoctorFinding(
            "area-unmapped",
            ERROR,
            f"The memory that is registered as the rseq area of {listed(gone)} is not there any more: the kernel "
            "writes the CPU number into it, and kills the program (SIGSEGV) as soon as the thread runs on",
            "Who registers an area must unregister it before freeing it, or before its thread ends",
            "rseq(2)",
        )
