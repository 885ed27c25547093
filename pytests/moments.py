"""Waits for a state, not for the clock: what a busy machine does late is seen late, and missed by nobody."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

HANG = 600.0
"""Seconds after which a state that does not come is taken for one that never will."""


def comes(condition: Callable[[], bool], seconds: float = HANG) -> bool:
    """Wait for a condition; return whether it came."""
    end = time.monotonic() + seconds
    while not (come := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return come


def _fields(pid: int) -> list[str]:
    """Return those of /proc/PID/stat from the state on (proc_pid_stat(5), field 3)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; a parent may have to fetch its status yet."""
    return _fields(pid)[:1] in ([], ["Z"], ["X"])


def spent(pid: int) -> float:
    """Return the processor time of a process, in seconds; infinity if it has ended."""
    fields = _fields(pid)
    return float("inf") if is_gone(pid) else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Return the children of a process's main thread."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except OSError:
        return []


def runs(pid: int, name: str) -> bool:
    """Return whether a process executes the program of that name (proc_pid_comm(5))."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8") == f"{name[:15]}\n"
    except OSError:
        return False


def is_asleep(pid: int, name: str) -> bool:
    """Return whether a process executes the program of that name, and that waits for something."""
    return runs(pid, name) and _fields(pid)[0] == "S"
