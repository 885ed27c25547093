"""The seccomp filters of a task: how many, and what they do with its registration."""

from __future__ import annotations

from pathlib import Path

from rseq_matrix.documents.doctor import FilterAnswer, SeccompFilters
from rseq_matrix.ptrace.filters import ACTIONS, ORIGINAL, answer_of, call_data, read_filters
from rseq_matrix.ptrace.tasks import status_field

SECCOMP_FILTER = "2"
"""The mode with filters; 1 is the strict mode, which has none (proc_pid_status(5))."""


def seccomp_filters(tid: int, area: int, length: int | None = None) -> SeccompFilters:
    """Return how many filters a stopped task has, and what they do with the registration of an area."""
    if status_field(Path(f"/proc/{tid}"), "Seccomp") != SECCOMP_FILTER:
        return SeccompFilters(0)
    count = int(status_field(Path(f"/proc/{tid}"), "Seccomp_filters") or 0)
    programs, unread = read_filters(tid)
    answer = None if unread else answer_of(programs, call_data(area, length or ORIGINAL))
    rseq = FilterAnswer(*answer) if answer else None
    return SeccompFilters(count or len(programs) or 1, rseq=rseq, unread=unread)


def strictness(seccomp: SeccompFilters) -> tuple[int, int]:
    """Return a key that is greater for filters that do worse to rseq(2); what is not known counts as no refusal."""
    order = list(ACTIONS.values())[::-1]
    answer = seccomp.rseq
    return (0 if answer is None or answer.passes else 1 + order.index(answer.action)), seccomp.filters


def known_strictness(seccomp: SeccompFilters) -> tuple[tuple[int, int], bool]:
    """Return the strictness and, between filters that are equally strict, whether it is known what they do."""
    return strictness(seccomp), seccomp.rseq is not None
