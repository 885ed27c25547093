"""Whether libc supports rseq, and whether the tunable glibc.pthread.rseq switches it off."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.doctor.findings.conditions import kernel_answer, stopped_by_filter, was_killed
from rseq_matrix.doctor.findings.vocabulary import (
    GETCPU,
    LIBRSEQ,
    MANUAL,
    ONLY_SLOWER,
    OTHERS_REGISTER,
    TCMALLOC,
    TUNABLES,
)
from rseq_matrix.doctor.host_libc import asked_for
from rseq_matrix.documents.doctor import NOTE, OTHER, PRESENT, PROCESS, TUNABLE, WARNING, DoctorFinding, Examined


def switched_off(document: Examined) -> Iterator[DoctorFinding]:
    """glibc does not register rseq: because of the tunable, or for no known reason; or it ignores the tunable."""
    libc, process = document.libc, document.process
    if libc is None or libc.size is None:
        return
    tunable, size = libc.tunable, libc.size
    text = tunable.text if tunable else process.tunables if process else None
    asked = asked_for(text)
    if kernel_answer(document) != PRESENT:
        return
    own = any(thread.owner == OTHER for thread in document.threads)
    where = "the initial environment of the process" if document.kind == PROCESS else "the environment of this shell"
    if size == 0 and asked is not None and (tunable is None or tunable.in_force):
        yield DoctorFinding(
            "tunable-off",
            NOTE if own else WARNING,
            f"glibc does not register rseq, because of GLIBC_TUNABLES='{text}' in {where}. {ONLY_SLOWER}; "
            f"{OTHERS_REGISTER}",
            f"Keep the setting for programs with tcmalloc; otherwise remove {TUNABLE}=0 from GLIBC_TUNABLES",
            f"{TUNABLES}; {GETCPU}; {TCMALLOC}; {LIBRSEQ}",
        )
    elif size > 0 and asked == "0":
        why, cure = _why_ignored(document)
        sentence = f"GLIBC_TUNABLES contains {TUNABLE}=0, but glibc registers rseq{why}"
        yield DoctorFinding("tunable-ignored", WARNING, sentence, cure, TUNABLES)
    elif size == 0 and not own and not was_killed(document) and not stopped_by_filter(document):
        yield DoctorFinding(
            "off-unexplained",
            WARNING,
            "glibc does not register rseq, although the kernel has it and GLIBC_TUNABLES does not switch it off "
            + ("(it is not set)" if text is None else f"('{text}')"),
            "Start a program under strace -e rseq and see what rseq(2) returns",
            MANUAL,
        )


def _why_ignored(document: Examined) -> tuple[str, str]:
    if document.run and document.run.secure:
        why = ": a program with more privileges than its caller (set-user-ID, file capabilities) ignores tunables"
        return why, "Start it as the user whose privileges it gets; its environment cannot switch rseq off otherwise"
    return "", "Check the spelling of the whole variable: glibc ignores what it does not recognize"


def no_support(document: Examined) -> Iterator[DoctorFinding]:
    """libc has no rseq support."""
    libc = document.libc
    if libc is not None and libc.size is None:
        yield DoctorFinding(
            "libc-without-rseq",
            NOTE,
            "This libc has no rseq support (glibc before 2.35, or another libc): a library that uses rseq registers "
            "its own areas",
            "Nothing to repair",
            MANUAL,
        )
