"""Sentences about cells: hazards, and how to repeat one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from rseq_matrix.documents.run import CellResult, Observation, RunDocument
from rseq_matrix.model.classes import DEAD, HAZARDS, STALE

PLACES = {
    "process.vfork_child": "in a vfork child",
    "process.clone_vm_child": "in a clone(CLONE_VM) child",
    "process.clone_thread_zeroed": "in a raw thread with a zeroed TLS block",
}


def _hazard(cell: CellResult, observed: Observation) -> str:
    place = PLACES.get(cell.stage, f"at {cell.stage}")
    said, libc, cpu = observed.cpu_id, observed.sched_getcpu, observed.getcpu
    if observed.class_ == DEAD:
        return f"{place} cpu_id said {said} on CPU {cpu}: the area is registered, but does not follow the thread"
    looks = "rseq looks registered there and is not"
    if libc is None:
        return f"{place} cpu_id said {said} on CPU {cpu}: {looks}"
    return f"{place} sched_getcpu() returned {libc} on CPU {cpu}: {looks} (cpu_id said {said})"


def hazards(cells: Iterable[CellResult]) -> list[tuple[str, list[str]]]:
    """Return each hazard that was seen, in words, as its first cell has it, and where it was seen."""
    cells = list(cells)
    several = len({(cell.libc, cell.environment) for cell in cells}) > 1
    found: dict[str, tuple[str, list[str]]] = {}
    for cell in cells:
        if cell.observed and cell.observed.class_ in HAZARDS:
            where = f"{cell.libc}/{cell.link}/{cell.environment}" if several else cell.link
            found.setdefault(cell.stage, (_hazard(cell, cell.observed), []))[1].append(where)
    return list(found.values())


ADVICE = {
    STALE: "a library that trusts cpu_id there corrupts per-CPU data silently",
    DEAD: "a library that trusts cpu_id there works on another CPU's data",
}


def repeat(cell: CellResult, document: RunDocument) -> str:
    """Return the command that repeats a cell of a document."""
    spec = next((libc.spec for libc in document.libcs if libc.id == cell.libc), "system")
    libc = "" if spec == "system" else f"--libc {shlex.quote(spec)} "
    return f"rseq-matrix run {libc}'{cell.id}'"


def speed(cells: int, seconds: float) -> str:
    """Return how fast a run was."""
    return f"{seconds:.1f} s, {cells / seconds:.0f} cells a second" if seconds > 0 else "no time"


def summary(document: RunDocument) -> str:
    """Return the one line that counts the results."""
    counts = [f"{count} {word}" for word, count in document.summary.items() if count]
    cells = len(document.cells)
    unfinished = "" if document.complete else "interrupted; "
    return f"{unfinished}{cells} cells: {', '.join(counts) or 'none'}"
