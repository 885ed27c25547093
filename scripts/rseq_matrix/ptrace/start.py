"""Starting a program under ptrace, and why that, or any tracing, may be refused."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from rseq_matrix._native import ffi, lib
from rseq_matrix.errors import InputError, MissingError
from rseq_matrix.ptrace.tracee import ALL_KINDS


def find_program(name: str) -> str:
    """Return the path of a program as a shell finds it. Raises InputError."""
    if "/" in name:
        if not Path(name).exists():
            raise InputError(f"{name}: there is no such file")
        return name
    found = shutil.which(name)
    if found is None:
        raise InputError(f"{name}: there is no such program on the PATH")
    return found


def refused(why: str) -> MissingError:
    """Return what is said where one process may not trace another."""
    return MissingError(f"this kernel or container lets no process trace another ({why}); allow ptrace(2)")


def may_trace() -> bool:
    """Return whether one process may trace even its own child here."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        return bool(lib.rsm_trace_hold(child) == 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, ALL_KINDS)


def start_traced(path: str, argv: Sequence[str], environment: Mapping[str, str], output: int) -> int:
    """Start a program under ptrace, seized and stopped at its exec. Return its process id.

    Raises InputError where it cannot be executed, MissingError where tracing is not allowed.
    """
    arguments, kept = _strings(argv)
    variables, kept_too = _strings([f"{name}={value}" for name, value in environment.items()])
    error, stage = ffi.new("int *"), ffi.new("int *")
    pid = int(lib.rsm_trace_start(os.fsencode(path), arguments, variables, output, error, stage))
    del kept, kept_too  # alive until here
    if pid >= 0:
        return pid
    why = os.strerror(error[0])
    raise InputError(f"{path}: cannot be executed: {why}") if stage[0] or may_trace() else refused(why)


def _strings(values: Sequence[str]) -> tuple[object, list[object]]:
    kept: list[object] = [ffi.new("char[]", os.fsencode(value)) for value in values]
    return ffi.new("char *[]", [*kept, ffi.NULL]), kept
