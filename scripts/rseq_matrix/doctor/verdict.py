"""From the facts to the findings and the verdict, in words for a reader who knows only a crash message.

Pure functions: RULES is the whole decision, in the order in which findings of one severity are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
        return f"Healthy{_healthy_program(document, '' if has_it else ', which does not use it')}."
    if not document.threads or any(thread.owner != GLIBC for thread in document.threads):
        return "Healthy: no problem with rseq was found."
    right = ", and the CPU numbers are right" if all(thread.follows for thread in document.threads) else ""
    return f"Healthy: the kernel has rseq, glibc registers every thread{right}."


def _healthy_program(document: Examined, without: str) -> str:
    """Return how far a process or program was found healthy; `without` says that it does not use rseq at all."""
    run = document.run
    if run is None:
        return f": no problem with rseq was found in this process{without}"
    if run.moment in (ENTRY, EARLY):
        works = "no problem with rseq was found" if without else "rseq works"
        return f": {works} in this program{without}, up to where its own code begins"
    if run.left:
        return " as far as it was followed: the program ended and left other processes running"
    return f": no problem with rseq was found in this program{without}" if without else ": rseq worked in this program"


def _counted(faults: Sequence[DoctorFinding]) -> str:
    numbers = {severity: sum(fault.severity == severity for fault in faults) for severity in (ERROR, WARNING)}
    return ", ".join(f"{number} {severity}{'s' * (number != 1)}" for severity, number in numbers.items() if number)


def diagnose(document: Examined) -> Examination:
    """Return the document with its findings, gravest first, and the verdict. A note is no fault."""
    found = [finding for rule in RULES for finding in rule(document)]
    found.sort(key=lambda finding: (ERROR, WARNING, NOTE).index(finding.severity))
    faults = [finding for finding in found if finding.severity != NOTE]
    sentence = f"Not healthy: {_counted(faults)}." if faults else _healthy_sentence(document)
    return Examination(**vars(document), findings=tuple(found), verdict=HealthVerdict(not faults, sentence))
