"""The seccomp filters that a task is under: how many, and what they answer to its registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rseq_matrix.ptrace.filters import ACTIONS, ORIGINAL, PASSING, answer_of, call_data, read_filters
from rseq_matrix.ptrace.seize import status_field

Document = dict[str, Any]

SECCOMP_FILTER = "2"
"""The mode with filters; 1 is the strict mode, which has none (proc_pid_status(5))."""


def seccomp_document(tid: int, area: int, length: int | None = None) -> Document:
    """Return how many filters a stopped task has, and what they answer to the registration of an area."""
    if status_field(Path(f"/proc/{tid}"), "Seccomp") != SECCOMP_FILTER:
        return {"filters": 0, "thread": None, "rseq": None, "unread": None}
    count = int(status_field(Path(f"/proc/{tid}"), "Seccomp_filters") or 0)
    programs, unread = read_filters(tid)
    answer = None if unread else answer_of(programs, call_data(area, length or ORIGINAL))
    return {"filters": count or len(programs) or 1, "thread": None, "rseq": answer, "unread": unread}


def strictness(seccomp: Document) -> tuple[int, int]:
    """Return how little filters let rseq(2) pass, to compare: what is not known counts as no refusal."""
    order = list(ACTIONS.values())[::-1]
    answer = seccomp["rseq"]
    passes = answer is None or answer["action"] in PASSING
    return (0 if passes else 1 + order.index(answer["action"])), seccomp["filters"]


def known_strictness(seccomp: Document) -> tuple[tuple[int, int], bool]:
    """Return the strictness and, between filters that are equally strict, whether it is known what they answer."""
    return strictness(seccomp), seccomp["rseq"] is not None
