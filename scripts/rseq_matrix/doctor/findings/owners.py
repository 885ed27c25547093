"""Which code registered the threads' areas, and whether all threads are registered alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rseq_matrix.doctor.findings.conditions import glibc_claims, was_killed
from rseq_matrix.doctor.findings.vocabulary import LIBRSEQ, MANUAL, OFF, TCMALLOC, listed
from rseq_matrix.documents.doctor import (
    ERROR,
    GLIBC,
    HOST,
    NONE,
    NOTE,
    OTHER,
    WARNING,
    DoctorFinding,
    Examined,
    ExaminedThread,
)
from rseq_matrix.ptrace.filters import SIGNATURE


def other_owner(document: Examined) -> Iterator[DoctorFinding]:
    """The registered area is not glibc's."""
    others = [thread for thread in document.threads if thread.owner == OTHER]
    if not others:
        return
    home = next((thread.object for thread in others if thread.object), None)
    where = (f" (its area is in {home})" if home else "") + _strange_signature(others)
    if glibc_claims(document):
        old = any(thread.believed for thread in others)
        trust = (
            "Code that trusts glibc's area, as sched_getcpu() does, reads an old CPU number"
            if old
            else "Code that checks only glibc's __rseq_size takes glibc's area, which is not registered, for registered"
        )
        yield DoctorFinding(
            "owner-disagrees",
            ERROR,
            f"Two registrations conflict: glibc says that it registers an area for every thread, but in "
            f"{listed(others)} the kernel has another area registered{where}. {trust}",
            f"Start the program with {OFF}, so that only the other code registers",
            f"{MANUAL}; rseq(2)",
        )
    else:
        yield DoctorFinding(
            "own-registration",
            NOTE,
            f"The program, or a library in it, registers rseq itself{where}, in {listed(others)}; glibc does not. That "
            "works; libraries that use glibc's area run their slower code",
            "Nothing to repair",
            f"{LIBRSEQ}; {TCMALLOC}",
        )


def _strange_signature(threads: Sequence[ExaminedThread]) -> str:
    """Return what an unusual signature means for the code in the program; "" for RSEQ_SIG."""
    strange = next((t.signature for t in threads if t.signature not in (SIGNATURE, None)), None)
    if strange is None:
        return ""
    return (
        f", with the signature {strange:#x}: the kernel kills the program in critical sections built for {SIGNATURE:#x}"
    )


def differ(document: Examined) -> Iterator[DoctorFinding]:
    """The threads are not registered alike."""
    kinds: dict[tuple[str, int | None, int | None], list[ExaminedThread]] = {}
    for thread in document.threads:
        if thread.owner != "unknown":
            kinds.setdefault((thread.owner, thread.length, thread.signature), []).append(thread)
    if len(kinds) < 2 or document.kind == HOST or was_killed(document):
        return
    words = [f"{listed(alike)}: {_kind(alike[0])}" for alike in kinds.values()]
    more = f"; and {len(words) - 4} other kinds" if len(words) > 4 else ""
    yield DoctorFinding(
        "threads-differ",
        WARNING,
        f"The threads are not registered alike ({'; '.join(words[:4])}{more}): a library that checks one thread only "
        "is wrong about others",
        "A library must check every thread; threads made with clone(2) directly are not registered",
        "rseq(2)",
    )


def _kind(thread: ExaminedThread) -> str:
    """Return how a thread is registered."""
    if thread.owner == NONE:
        return "not registered"
    by = "by glibc" if thread.owner == GLIBC else "by other code"
    signature = "" if thread.signature in (SIGNATURE, None) else f", signature {thread.signature:#x}"
    return f"registered {by}, {thread.length} bytes{signature}"
