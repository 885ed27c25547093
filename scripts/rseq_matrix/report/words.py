"""Sentences about cells: hazards, and how to repeat one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rseq_matrix.classes import DEAD, HAZARDS, STALE

PLACES = {
    "process.vfork_child": "in a vfork child",
    "process.clone_vm_child": "in a clone(CLONE_VM) child",
    "process.clone_thread_zeroed": "in a raw thread with a zeroed TLS block",
}


def _hazard(cell: dict[str, Any]) -> str:
    observed = cell["observed"]
    place = PLACES.get(cell["stage"], f"at {cell['stage']}")
    cpu, said, libc = observed["getcpu"], observed["cpu_id"], observed["sched_getcpu"]
    where = f"on CPU {cpu}"
    if observed["class"] == DEAD:
        return f"{place} the area is registered, but cpu_id says {said} {where}"
    sentence = f"{place} rseq looks registered and is not: cpu_id said {said} {where}"
    if libc is not None and libc != cpu:
        return f"{sentence}, and libc's own sched_getcpu() returned {libc} {where}"
    if libc is not None:
        return f"{sentence}, and sched_getcpu() returned {libc}"
    return sentence


def hazards(cells: Iterable[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return each hazard that was seen, in words, with where (environment/link) it was."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        if cell["observed"] and cell["observed"]["class"] in HAZARDS:
            found.setdefault(_hazard(cell), []).append(f"{cell['libc']}/{cell['link']}/{cell['environment']}")
    return list(found.items())


ADVICE = {
    STALE: "a library that trusts cpu_id there corrupts per-CPU data silently",
    DEAD: "a library that trusts cpu_id there works on another CPU's data",
}


def repeat(cell: dict[str, Any]) -> str:
    """Return the command that repeats a cell."""
    return f"rseq-matrix run '{cell['id']}'"


def summary(document: dict[str, Any]) -> str:
    """Return the one line that counts the results."""
    counts = [f"{count} {word}" for word, count in document["summary"].items() if count]
    cells = len(document["cells"])
    unfinished = "" if document["complete"] else "interrupted; "
    return f"{unfinished}{cells} cells: {', '.join(counts) or 'none'}"
