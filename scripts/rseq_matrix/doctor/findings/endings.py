"""Why a program was killed."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.doctor.findings.conditions import filter_answer, stopped_by_filter
from rseq_matrix.doctor.findings.vocabulary import (
    ALLOW,
    FATAL,
    MANUAL,
    MESSAGE,
    OFF,
    PTHREAD_CREATE,
    SECCOMP,
    V2_RULES,
    WHAT_FILTER,
    suspects,
)
from rseq_matrix.documents.doctor import ERROR, HOST, V2, DoctorFinding, Examined, errno_name


def killed(document: Examined) -> Iterator[DoctorFinding]:
    """The program, or a process that it started, was killed."""
    run = document.run
    if run is None:
        return
    words = "\n".join(run.last_words)
    name = "A small test program" if document.kind == HOST else "The program"
    if MESSAGE in words and (run.killed_by or run.children):
        victim = name if run.killed_by else "A process that the program started"
        yield DoctorFinding(
            "threads-killed",
            ERROR,
            f"{victim} was terminated by glibc with '{FATAL}'. Its main thread was registered when it started; then "
            f"{_obstacle(document)}, and the next thread that it created could not be registered{suspects(document)}",
            ALLOW,
            PTHREAD_CREATE,
        )
    elif run.killed_by == "SIGSYS":
        yield DoctorFinding(
            "filter-kills",
            ERROR,
            f"{name} was killed by SIGSYS: a seccomp filter ({WHAT_FILTER}) kills a program that makes a call that it "
            f"does not allow; rseq(2) {'is' if stopped_by_filter(document) else 'may be'} such a call"
            f"{suspects(document)}",
            ALLOW,
            SECCOMP,
        )
    elif run.killed_by == "SIGSEGV" and document.kernel and document.kernel.class_ == V2:
        yield DoctorFinding(
            "program-died",
            ERROR,
            f"{name} was killed by SIGSEGV: {words[:120]}",
            "This kernel does that to a program that overwrites cpu_id: see ids-overwritten, if it is named",
            V2_RULES,
        )
    elif run.killed_by:
        yield DoctorFinding(
            "program-died",
            ERROR,
            f"{name} was killed by {run.killed_by}{': ' + words[:120] if words else ''}",
            f"If you suspect rseq, see whether it still happens with {OFF}",
            MANUAL,
        )


def _obstacle(document: Examined) -> str:
    """Return what happened between the registration of the main thread and that of the next one."""
    answer = filter_answer(document)
    if answer and answer.errno:
        return f"a seccomp filter ({WHAT_FILTER}) was installed that makes rseq(2) fail with {errno_name(answer.errno)}"
    return f"rseq(2) began to fail, most likely because of a seccomp filter ({WHAT_FILTER})"
