"""What the facts mean, in words for who has met only a crash message.

Pure: from a document to findings and a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rseq_matrix.doctor.findings import areas, endings, kernel_defects, libc_support, owners, refusals, static_tls
from rseq_matrix.documents.doctor import (
    EARLY,
    ENTRY,
    ERROR,
    GLIBC,
    HOST,
    NOTE,
    WARNING,
    DoctorFinding,
    Examination,
    Examined,
    HealthVerdict,
)

RULES: tuple[Callable[[Examined], Iterator[DoctorFinding]], ...] = (
    refusals.refused_after_start,
    areas.unmapped,
    endings.killed,
    refusals.ahead,
    areas.dead_or_stale,
    areas.overwritten,
    owners.other_owner,
    refusals.faked,
    refusals.refused,
    static_tls.full,
    libc_support.switched_off,
    owners.differ,
    kernel_defects.behaviour,
    libc_support.no_support,
)


def _healthy_sentence(document: Examined) -> str:
    if document.kind != HOST:
        has_it = any(thread.length for thread in document.threads)
        return f"Healthy{_healthy_program(document, '' if has_it else ', which has none')}."
    if not document.threads or any(thread.owner != GLIBC for thread in document.threads):
        return "Healthy: nothing is wrong with rseq here."
    right = ", and the CPU numbers are right" if all(thread.follows for thread in document.threads) else ""
    return f"Healthy: the kernel has rseq, glibc registers it in every thread{right}."


def _healthy_program(document: Examined, without: str) -> str:
    """Say how far the health of a process or program goes; `without`: it does not use rseq at all."""
    run = document.run
    if run is None:
        return f": nothing is wrong with rseq in this process{without}"
    if run.moment in (ENTRY, EARLY):
        works = "nothing is wrong with rseq" if without else "rseq works"
        return f": {works} in this program{without}, up to where its own code begins"
    if run.left:
        return ", as far as it was followed: the program left others behind and ended"
    return f": nothing is wrong with rseq in this program{without}" if without else ": rseq worked in this program"


def diagnose(document: Examined) -> Examination:
    """Return the document with its findings, gravest first, and the verdict. A note is no fault."""
    found = [finding for rule in RULES for finding in rule(document)]
    found.sort(key=lambda finding: (ERROR, WARNING, NOTE).index(finding.severity))
    faults = [finding for finding in found if finding.severity != NOTE]
    count = f"{len(faults)} thing{'s' * (len(faults) != 1)}"
    grave = any(finding.severity == ERROR for finding in faults)
    sentence = f"{'Wrong' if grave else 'Take note'}: {count}, named below." if faults else _healthy_sentence(document)
    return Examination(**vars(document), findings=tuple(found), verdict=HealthVerdict(not faults, sentence))
