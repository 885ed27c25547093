"""Whether libc registers rseq, and the tunable that says whether it is to."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.doctor.findings.conditions import kernel_answer, stopped_by_filter, was_killed
from rseq_matrix.doctor.findings.vocabulary import GETCPU, LIBRSEQ, MANUAL, TCMALLOC, TUNABLES, WHO_LOSES
from rseq_matrix.doctor.host_libc import asked_for
from rseq_matrix.documents.doctor import NOTE, OTHER, PRESENT, PROCESS, TUNABLE, WARNING, DoctorFinding, Examined


def switched_off(document: Examined) -> Iterator[DoctorFinding]:
    """rseq is switched off, or on against the tunable, or off and nobody says why."""
    libc, process = document.libc, document.process
    if libc is None or libc.size is None:
        return
    tunable, size = libc.tunable, libc.size
    text = tunable.text if tunable else process.tunables if process else None
    asked = asked_for(text)
    if kernel_answer(document) != PRESENT:
        return
    own = any(thread.owner == OTHER for thread in document.threads)
    where = "this shell's environment" if document.kind != PROCESS else "its environment when it was started"
    if size == 0 and asked is not None and (tunable is None or tunable.in_force):
        yield DoctorFinding(
            "tunable-off",
            NOTE if own else WARNING,
            f"glibc's rseq is switched off, by GLIBC_TUNABLES in {where} ('{text}'). {WHO_LOSES}",
            f"Keep it for programs with tcmalloc; else take {TUNABLE}=0 out of GLIBC_TUNABLES",
            f"{TUNABLES}; {GETCPU}; {TCMALLOC}; {LIBRSEQ}",
        )
    elif size > 0 and asked == "0":
        why, cure = _why_ignored(document)
        sentence = f"GLIBC_TUNABLES says {TUNABLE}=0, but rseq is on all the same{why}"
        yield DoctorFinding("tunable-ignored", WARNING, sentence, cure, TUNABLES)
    elif size == 0 and not own and not was_killed(document) and not stopped_by_filter(document):
        yield DoctorFinding(
            "off-unexplained",
            WARNING,
            "glibc has not registered rseq, though the kernel offers it and no tunable says so"
            + (" in the environment" if text is None else f" ('{text}')"),
            "See with strace -e rseq what the call is answered when a program starts",
            MANUAL,
        )


def _why_ignored(document: Examined) -> tuple[str, str]:
    if document.run and document.run.secure:
        why = ": a program with more rights than who starts it (set-user-ID, file capabilities) ignores tunables"
        return why, "Start it as the user whose rights it takes on; the environment cannot switch rseq off otherwise"
    return "", "Check the spelling of the whole variable: glibc passes over what it does not know"


def no_support(document: Examined) -> Iterator[DoctorFinding]:
    """libc does not know rseq."""
    libc = document.libc
    if libc is not None and libc.size is None:
        yield DoctorFinding(
            "libc-without-rseq",
            NOTE,
            "This libc does not know rseq (glibc before 2.35, or another libc): a library that wants it registers it",
            "Nothing to repair",
            MANUAL,
        )
