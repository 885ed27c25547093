"""What /proc says of the tasks of a program that is followed: is it a process, does it live, has it only just begun."""

from __future__ import annotations

from pathlib import Path

from rseq_matrix.ptrace.seize import GONE, stat_fields, status_field
from rseq_matrix.ptrace.start import RSEQ_CALL

STARTING_CALLS = frozenset({56, 435, 273, RSEQ_CALL})
"""clone, clone3, set_robust_list: where a thread stands that glibc has not registered yet (start_thread)."""
NO_CALL = -1


def is_process(tid: int) -> bool:
    """Return whether a task is the first of a process that lives, and no thread."""
    directory = Path(f"/proc/{tid}")
    return status_field(directory, "Tgid") == str(tid) and (stat_fields(directory) or ["X"])[0] not in GONE


def lives(pid: int, without: int = 0) -> bool:
    """Return whether a process has a living thread but one. It stops looking at the first."""
    try:
        tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != without]
    except OSError:
        return False
    return any((stat_fields(task) or ["X"])[0] not in GONE for task in tasks)


def is_starting(tid: int, ending: bool) -> bool:
    """Return whether a stopped thread has not come to its registration yet.

    One that ends between two system calls, because its process does, counts, too: it may only just have begun.
    """
    try:
        word = Path(f"/proc/{tid}/syscall").read_text(encoding="ascii").split()[0]
    except (OSError, IndexError):
        return False
    number = int(word) if word.lstrip("-").isdigit() else NO_CALL
    return number in STARTING_CALLS or (ending and number == NO_CALL)
