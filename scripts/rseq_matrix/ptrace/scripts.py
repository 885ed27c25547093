"""Scripts: each is followed as the interpreter that its first line names, which the kernel starts in its place."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from rseq_matrix.errors import InputError
from rseq_matrix.ptrace.start import Plan, plan

INTERPRETERS = 4
"""As many scripts may interpret each other (execve(2), "Interpreter scripts")."""


def _interpreter_line(path: str) -> bytes:
    """Return the first line of a script without its #!; nothing of what is none, or cannot be read."""
    if not Path(path).is_file():
        return b""
    try:
        with Path(path).open("rb") as stream:
            first = stream.read(256).partition(b"\n")[0]
    except OSError:
        return b""
    return first[2:] if first.startswith(b"#!") else b""


def script_plan(path: str, depth: int = INTERPRETERS) -> Plan:
    """Return how a program is followed; a script as the program that its first line names, which the kernel starts."""
    words = _interpreter_line(path).split()
    if not words or not depth:
        return plan(path)
    interpreter = os.fsdecode(words[0])
    if not Path(interpreter).exists():
        raise InputError(f"{path}: a script for {interpreter}, which is not here")
    return replace(script_plan(interpreter, depth - 1), path=path)
