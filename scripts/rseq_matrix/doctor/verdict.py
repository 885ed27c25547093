"""What the facts mean, in words for who has met only a crash message.

Pure: from a document to findings and a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rseq_matrix.doctor.findings import areas, endings, kernel_defects, libc_support, owners, refusals, static_tls
from rseq_matrix.doctor.findings.vocabulary import ERROR, NOTE, WARNING, Document, Found
from rseq_matrix.doctor.thread import GLIBC

RULES: tuple[Callable[[Document], Iterator[Found]], ...] = (
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


def _healthy_sentence(document: Document) -> str:
    threads = document["threads"]
    if document["kind"] != "host":
        has_it = any(thread["length"] for thread in threads)
        return f"Healthy{_healthy_program(document, '' if has_it else ', which has none')}."
    if not threads or any(thread["owner"] != GLIBC for thread in threads):
        return "Healthy: nothing is wrong with rseq here."
    right = ", and the CPU numbers are right" if all(thread["follows"] for thread in threads) else ""
    return f"Healthy: the kernel has rseq, glibc registers it in every thread{right}."


def _healthy_program(document: Document, without: str) -> str:
    """Say how far the health of a process or program goes; `without`: it does not use rseq at all."""
    if document["kind"] == "process":
        return f": nothing is wrong with rseq in this process{without}"
    if document["run"]["moment"] in ("entry", "tls"):
        works = "nothing is wrong with rseq" if without else "rseq works"
        return f": {works} in this program{without}, up to where its own code begins"
    if document["run"]["left"]:
        return ", as far as it was followed: the program left others behind and ended"
    return f": nothing is wrong with rseq in this program{without}" if without else ": rseq worked in this program"


def diagnose(document: Document) -> Document:
    """Return the findings, gravest first, and the verdict. A note is no fault."""
    names = ("id", "severity", "sentence", "advice", "reference")
    found = [dict(zip(names, one, strict=True)) for rule in RULES for one in rule(document)]
    found.sort(key=lambda one: (ERROR, WARNING, NOTE).index(one["severity"]))
    faults = [one for one in found if one["severity"] != NOTE]
    count = f"{len(faults)} thing{'s' * (len(faults) != 1)}"
    grave = any(one["severity"] == ERROR for one in faults)
    sentence = f"{'Wrong' if grave else 'Take note'}: {count}, named below." if faults else _healthy_sentence(document)
    return {"findings": found, "verdict": {"healthy": not faults, "sentence": sentence}}
