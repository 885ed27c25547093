"""The picture of a process's static TLS: of one that runs, or of a program that is started for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rseq_matrix.documents.layout import LaidOutThread, LayoutDocument, StructPthread
from rseq_matrix.errors import InputError
from rseq_matrix.layout.blocks import Layout, laid_out_thread, place
from rseq_matrix.layout.dwarf import find_struct_pthread, read_file
from rseq_matrix.layout.findings import judge, notes
from rseq_matrix.layout.libc import read_libc
from rseq_matrix.layout.started import started_program
from rseq_matrix.ptrace.follow import Tracees
from rseq_matrix.ptrace.memory import ProcessMemory
from rseq_matrix.ptrace.objects import Object, is_static, loaded_objects
from rseq_matrix.ptrace.seize import seized
from rseq_matrix.ptrace.tasks import living_tasks

ATTACHED = "attached"
STALE = "layout-rseq-stale"
PAUSE = 0.02  # seconds
CLASS_64, MACHINE_X86_64 = 2, 62


@dataclass(frozen=True)
class Picture:
    """What was read of a process while it was stopped; the process is not needed any more."""

    program: str
    pid: int
    moment: str
    threads: tuple[LaidOutThread, ...]
    elsewhere: tuple[str, ...]
    unplaced: tuple[str, ...]

    def document(self) -> LayoutDocument:
        """Return the document, with the findings."""
        return LayoutDocument(
            program=self.program,
            pid=self.pid,
            moment=self.moment,
            threads=self.threads,
            elsewhere=self.elsewhere,
            findings=(*judge(self.threads), *notes(self.threads, self.unplaced)),
        )


def check_machine(memory: ProcessMemory) -> None:
    """Raise InputError where the process runs another machine's code: everything else would be read wrongly."""
    try:
        with (memory.directory / "exe").open("rb") as stream:
            header = stream.read(20)
    except OSError:
        return  # no file to ask; its threads' registers will tell
    if header[4:5] != bytes([CLASS_64]):
        raise InputError(f"process {memory.pid} is a 32-bit process; only 64-bit x86-64 processes can be looked at")
    if int.from_bytes(header[18:20], "little") != MACHINE_X86_64:
        raise InputError(f"process {memory.pid} runs another machine's code; only x86-64 processes can be looked at")


def _layout(memory: ProcessMemory) -> Layout:
    objects = loaded_objects(memory)
    libc = read_libc(memory, objects)
    roots = [Path(f"/proc/{memory.pid}/root"), Path("/")]
    dwarf = find_struct_pthread(libc.build_ids, roots) or _own_dwarf(memory, objects)
    return place(memory, libc, objects, dwarf)


def _own_dwarf(memory: ProcessMemory, objects: Sequence[Object]) -> StructPthread | None:
    """Look into libc's file itself, which a self-built libc was not stripped of, and a static program's."""
    homes = [found for found in objects if found.name.startswith("libc.so")] or list(objects[:1])
    path = memory.directory / "exe" if is_static(memory, objects) else Path(f"/proc/{memory.pid}/root{homes[0].path}")
    return read_file(path)


def _draw(tracees: Tracees, moment: str) -> Picture:
    stopped = sorted(tracees.stopped, key=lambda tracee: tracee.tid)
    memory = ProcessMemory(tracees.pid, stopped[0].tid)
    try:
        check_machine(memory)
        tasks = [tracee.read() for tracee in stopped]
        layout = _layout(memory)
        threads = tuple(laid_out_thread(layout, task) for task in tasks)
        program = layout.objects[0].path or memory.program
        return Picture(program, tracees.pid, moment, threads, layout.elsewhere, layout.unplaced)
    except OSError as error:
        raise InputError(f"process {tracees.pid} cannot be read: {error.strerror}") from error
    finally:
        memory.close()


def of_process(pid: int) -> Picture:
    """Draw a running process: seize and stop its threads, read, and detach them.

    Raises InputError for a process that is gone, a zombie, the kernel's, 32-bit or not ours; MissingError where tracing
    is not allowed.
    """
    _find_dwarf_before(pid)
    picture = _look(pid)
    suspects = _unregistered(picture)
    if suspects:
        time.sleep(PAUSE)
        picture = _look(pid)
        starting = _unregistered(picture) - suspects
        threads = tuple(replace(thread, starting=thread.tid in starting) for thread in picture.threads)
        picture = replace(picture, threads=threads)
    return picture


def _unregistered(picture: Picture) -> set[int]:
    """Return the threads that look stale.

    One that is only just starting does, too: glibc registers the area in the new thread (nptl/pthread_create.c,
    start_thread). Only a second look can tell.
    """
    return {t.tid for t in picture.threads for found in judge([t]) if found.id == STALE}


def _find_dwarf_before(pid: int) -> None:
    """Read libc's debug information while the process still runs: no thread is stopped for that."""
    tids = living_tasks(pid)
    with contextlib.suppress(InputError, OSError):
        memory = ProcessMemory(pid, tids[0] if tids else pid)
        try:
            _layout(memory)
        finally:
            memory.close()


def _look(pid: int) -> Picture:
    with seized(pid) as tracees:
        return _draw(tracees, ATTACHED)


def of_program(argv: Sequence[str]) -> Picture:
    """Start a program, draw it at the first moment at which its TLS is set up (Picture.moment), and end it.

    Raises InputError for what is no program of this machine or does not get there; MissingError where tracing is not
    allowed.
    """
    with started_program(argv) as started:
        return _draw(started, started.moment)
