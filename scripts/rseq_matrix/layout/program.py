"""What has to be known of a program's file to follow it; a script is followed as the interpreter of its first line."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from rseq_matrix.elf.image import Image
from rseq_matrix.errors import InputError
from rseq_matrix.ptrace.follow import ProgramStart

MACHINE = "x86-64"
INTERPRETERS = 4
"""As many scripts may interpret each other (execve(2), "Interpreter scripts")."""


def read_program(path: str) -> ProgramStart:
    """Read what kind of program a file is. Raises InputError for one that is none, or another machine's."""
    with Image(path) as image:
        if image.machine.name != MACHINE:
            raise InputError(f"{path}: a program for {image.machine.name}; only {MACHINE} programs can be started here")
        table = image.all_symbols
        places = [int(table.table["value"][i]) for i, _ in table.named(frozenset({"main"})) if table.defined[i]]
        interpreter = image.interpreter
        if interpreter and not Path(interpreter).exists():
            raise InputError(f"{path}: its interpreter {interpreter} is not here")
        return ProgramStart(path, interpreter is not None, int(image.header["e_entry"]), places[0] if places else None)


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


def read_program_or_script(path: str, depth: int = INTERPRETERS) -> ProgramStart:
    """Read a program, or a script as the program that its first line names, which the kernel starts. As above."""
    words = _interpreter_line(path).split()
    if not words or not depth:
        return read_program(path)
    interpreter = os.fsdecode(words[0])
    if not Path(interpreter).exists():
        raise InputError(f"{path}: a script for {interpreter}, which is not here")
    return replace(read_program_or_script(interpreter, depth - 1), path=path)
