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
from rseq_matrix.documents.doctor import (
    NOTE,
    OTHER,
    PRESENT,
    PROCESS,
    TUNABLE,
    WARNING,
    DoctorFinding,
    Examined,
    TunableSetting,
)


def _tunables(document: Examined) -> str | None:
    """Return GLIBC_TUNABLES as libc or the process had it; None where it is not set."""
    if document.libc and document.libc.tunable:
        return document.libc.tunable.text
    return document.process.tunables if document.process else None


def _in_force(tunable: TunableSetting | None) -> bool:
    return tunable is None or bool(tunable.in_force)


def _tunable_off(document: Examined, text: str, own: bool) -> DoctorFinding:
    """Return that the tunable keeps glibc from registering. own: something else registers areas."""
    where = "the initial environment of the process" if document.kind == PROCESS else "the environment of this shell"
    return DoctorFinding(
        "tunable-off",
        NOTE if own else WARNING,
        f"glibc does not register rseq, because of GLIBC_TUNABLES='{text}' in {where}. {ONLY_SLOWER}; "
        f"{OTHERS_REGISTER}",
        f"Keep the setting for programs with tcmalloc; otherwise remove {TUNABLE}=0 from GLIBC_TUNABLES",
        f"{TUNABLES}; {GETCPU}; {TCMALLOC}; {LIBRSEQ}",
    )


def switched_off(document: Examined) -> Iterator[DoctorFinding]:
    """glibc does not register rseq: because of the tunable, or for no known reason; or it ignores the tunable."""
    libc = document.libc
    if libc is None or libc.size is None or kernel_answer(document) != PRESENT:
        return
    tunable, size, text = libc.tunable, libc.size, _tunables(document)
    asked = asked_for(text)
    own = any(thread.owner == OTHER for thread in document.threads)
    if size == 0 and asked is not None and _in_force(tunable):
        yield _tunable_off(document, str(text), own)
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
