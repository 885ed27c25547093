"""What is wrong in the areas: a CPU number that does not change or was overwritten, or unmapped memory."""

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
    """rseq looks registered, but the CPU number in the area does not change."""
    dead = dead_threads(document)
    stale = [t for t in document.threads if t.believed and t.owner == NONE and t not in dead]
    if dead:
        yield DoctorFinding(
            "registration-dead",
            ERROR,
            f"rseq looks registered in {listed(dead)}: rseq(2) returned success. But the CPU number in the area does "
            "not change when the thread migrates to another CPU: code that trusts it uses the data of another CPU, and "
            f"nothing reports that{suspects(document)}",
            "Find what fakes the registration (a preloaded library, a seccomp filter, an emulator); until then, start "
            f"programs with {OFF}",
            f"{MANUAL}; rseq(2)",
        )
    if stale:
        yield DoctorFinding(
            "registration-stale",
            ERROR,
            f"rseq looks registered in {listed(stale)}, but the kernel has no area registered there: the CPU number "
            "does not change, interrupted critical sections are not restarted, and per-CPU data are silently corrupted",
            "Do not use rseq in such a thread (made with clone(2) directly, or unregistered without glibc's knowledge)",
            f"{MANUAL}; rseq(2)",
        )


def overwritten(document: Examined) -> Iterator[DoctorFinding]:
    """Something other than the kernel writes cpu_id_start and cpu_id."""
    registered = [thread for thread in document.threads if thread.owner in (GLIBC, OTHER)]
    seen = [found.object for found in document.writes] if registered else []
    wrong = [thread for thread in registered if _ids_differ(thread)]
    if not seen and not wrong:
        return
    where = f"by {', '.join(seen)}" if seen else f"in {listed(wrong)} (cpu_id_start differs from cpu_id)"
    class_ = document.kernel.class_ if document.kernel else None
    after = {
        LEGACY: "This kernel writes it again at every context switch, so it works here; on Linux 6.19 to 7.0.9 it "
        "stays wrong, and from 7.0.10 the kernel kills the program (SIGSEGV) if the area is longer than 32 bytes",
        CHANGED_ONLY: "This kernel does not write it again before the thread migrates: until then it is wrong",
        V2: "This kernel kills the program for that (SIGSEGV) if the area is longer than 32 bytes",
    }.get(
        class_ or "",
        "Linux before 6.19 writes it again at every context switch; later versions do not, or kill the program: "
        "`rseq-matrix doctor` without arguments tells what this kernel does",
    )
    yield DoctorFinding(
        "ids-overwritten",
        ERROR,
        "The CPU number in the rseq area (cpu_id_start and cpu_id), which only the kernel may write, is overwritten "
        f"{where}. {after}",
        f"Update that library; if it has to overwrite it (tcmalloc's per-CPU caches do), start the program with {OFF}, "
        "so that the library registers an area of its own",
        f"{V2_RULES}; {CHANGED_RULES}; {TCMALLOC}",
    )


def _ids_differ(thread: ExaminedThread) -> bool:
    cpu, start = thread.cpu_id, thread.cpu_id_start
    return cpu is not None and cpu >= 0 and start is not None and start != cpu


def unmapped(document: Examined) -> Iterator[DoctorFinding]:
    """The memory of a registered area was unmapped."""
    gone = [thread for thread in document.threads if thread.lost_area]
    if gone:
        yield DoctorFinding(
            "area-unmapped",
            ERROR,
            f"The memory of the rseq area that is registered for {listed(gone)} has been unmapped: the kernel writes "
            "the CPU number there, and kills the program (SIGSEGV) as soon as the thread runs",
            "Code that registers an area must unregister it before it frees the memory, or before the thread ends",
            "rseq(2)",
        )
