"""How a program ended: killed, by whom and why."""

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
    """The program, or one that it started, was killed."""
    run = document.run
    if run is None:
        return
    words = "\n".join(run.last_words)
    who = "A small test program" if document.kind == HOST else "The program"
    if MESSAGE in words and (run.killed_by or run.children):
        victim = who if run.killed_by else "A process that the program started"
        yield DoctorFinding(
            "threads-killed",
            ERROR,
            f"{victim} was ended by glibc with '{FATAL}'. Its main thread was "
            f"registered when it started; then {_obstacle(document)}, and the next thread that it started could not "
            f"be registered{suspects(document)}",
            ALLOW,
            PTHREAD_CREATE,
        )
    elif run.killed_by == "SIGSYS":
        yield DoctorFinding(
            "filter-kills",
            ERROR,
            f"{who} was killed by SIGSYS: a seccomp filter ({WHAT_FILTER}) kills who makes a call that it does not "
            f"allow; rseq {'is' if stopped_by_filter(document) else 'may be'} such a one{suspects(document)}",
            ALLOW,
            SECCOMP,
        )
    elif run.killed_by == "SIGSEGV" and document.kernel and document.kernel.class_ == V2:
        yield DoctorFinding(
            "program-died", ERROR, f"{who} was killed by SIGSEGV: {words[:120]}", "See the stores above", V2_RULES
        )
    elif run.killed_by:
        yield DoctorFinding(
            "program-died",
            ERROR,
            f"{who} was killed by {run.killed_by}{': ' + words[:120] if words else ''}",
            "If rseq is suspected, see whether it lives with " + OFF,
            MANUAL,
        )


def _obstacle(document: Examined) -> str:
    """Return what has come between the main thread's registration and the next one."""
    answer = filter_answer(document)
    if answer and answer.errno:
        return f"a seccomp filter ({WHAT_FILTER}) was installed that answers the call with {errno_name(answer.errno)}"
    return f"the call was refused, most likely by a seccomp filter ({WHAT_FILTER})"
