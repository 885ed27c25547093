"""What /proc says of tasks: the state of one, whether it is a process, whether it has only just begun."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

GONE = frozenset("ZXx")
"""States of a task that has ended (proc_pid_stat(5))."""
RSEQ_CALL = 334  # x86-64: <asm/unistd_64.h>
STARTING_CALLS = frozenset({56, 435, 273, RSEQ_CALL})
"""clone, clone3, set_robust_list: the system calls of a thread that glibc has not registered yet (start_thread)."""
NO_CALL = -1


def stat_fields(directory: Path) -> list[str]:
    """Return the fields of /proc/…/stat from the third (state) on; [] where the task is gone (proc_pid_stat(5))."""
    try:
        line = (directory / "stat").read_text(errors="replace")
    except OSError:
        return []
    return line[line.rfind(")") + 1 :].split()


def status_field(directory: Path, name: str) -> str:
    """Return a line of /proc/…/status without its name, or ""."""
    try:
        lines = (directory / "status").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")


def has_ended(directory: Path) -> bool:
    """Return whether the task of a directory in /proc is a zombie or gone."""
    return (stat_fields(directory) or ["X"])[0] in GONE


def thread_ids(pid: int) -> list[int]:
    """Return the threads of a process, those that have ended but were not waited for included."""
    try:
        return [int(entry.name) for entry in os.scandir(f"/proc/{pid}/task")]
    except OSError:
        return []


def living_tasks(pid: int) -> list[int]:
    """Return the threads of a process that still have memory: a main thread that ended first has none."""
    return sorted(tid for tid in thread_ids(pid) if not has_ended(Path(f"/proc/{pid}/task/{tid}")))


def lives(pid: int, without: int = 0) -> bool:
    """Return whether a process has a living thread other than `without`. It stops looking at the first.

    Where it finds none it looks again: a thread that calls execve(2) takes over the process id, and that may have been
    looked at before, and the thread's own id after.
    """
    looks = itertools.chain.from_iterable(map(thread_ids, (pid, pid)))
    return any(tid != without and not has_ended(Path(f"/proc/{pid}/task/{tid}")) for tid in looks)


def is_process(tid: int) -> bool:
    """Return whether a task is the first of a process that lives, and no thread."""
    directory = Path(f"/proc/{tid}")
    return status_field(directory, "Tgid") == str(tid) and not has_ended(directory)


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
