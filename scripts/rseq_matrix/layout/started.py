"""A program that is started to be drawn: it runs until its TLS is set up, and no further."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from rseq_matrix.errors import InputError
from rseq_matrix.layout.program import read_program
from rseq_matrix.ptrace.follow import STOP_LIMIT, Follower
from rseq_matrix.ptrace.memory import ProcessMemory
from rseq_matrix.ptrace.objects import kernel_loaded, loaded_objects
from rseq_matrix.ptrace.start import find_program
from rseq_matrix.ptrace.tasks import living_tasks
from rseq_matrix.ptrace.tracee import Tracee

TIME_LIMIT = 10.0  # seconds until TLS is set up
SETTLE = 0.05

ENTRY, MAIN, RSEQ, TLS, EXIT = "entry", "main", "rseq", "tls", "exit"


class Started(Follower):
    """Follows a program until its TLS is set up. `moment` is where that was."""

    moment = ""
    executed = False

    def at_exec(self, memory: ProcessMemory) -> None:
        """Go on where the first program was loaded."""
        del memory
        if self.executed:
            raise InputError(f"{self.program.path}: it executes another program first; name that one")
        self.executed = True

    def at_own_code(self, tracee: Tracee) -> str | None:
        """Stop here; where ld.so itself was started, go on to the program that it loads."""
        if self.own_code is None:
            return None if self._loader_goes_on(tracee) else TLS
        return MAIN if self.program.main is not None and not self.program.dynamic else ENTRY

    def at_registration(self, tracee: Tracee) -> str | None:
        """Stop here in a stripped static program; where ld.so itself was started, go on as above."""
        return None if not tracee.thread_pointer or self._loader_goes_on(tracee) else RSEQ

    def at_exit(self, tracee: Tracee) -> str | None:
        """Stop where the program ends before."""
        return EXIT if tracee.tid == self.pid or self.is_last(tracee) else None

    def _loader_goes_on(self, tracee: Tracee) -> bool:
        """Where ld.so itself was started, plant the breakpoint at the entry point of the program that it loads."""
        memory = ProcessMemory(self.pid, tracee.tid)
        try:
            program = loaded_objects(memory)[0]
            loader = kernel_loaded(memory)
            if not program.link_map or program.bias == loader.bias or not program.segments:
                return False
            home = memory.mapping_at(program.bias + program.segments[0].address)  # PT_PHDR: in the file's first page
            entry = memory.word((home.start if home else 0) + 24)  # e_entry
            self.break_at(tracee, memory, program.bias + entry)
        except InputError:
            return False
        finally:
            memory.close()
        self.by_calls = False
        return True

    def reach(self, output: IO[bytes]) -> None:
        """Run the program until its TLS is set up. Raises InputError where it ends or hangs before."""
        path = self.program.path
        moment = self.run(TIME_LIMIT)
        if moment is None:
            if living_tasks(self.pid):
                raise InputError(f"{path}: it does not get to a moment at which TLS is set up within 10 seconds")
            raise InputError(f"{path}: it ended before its TLS was set up{_complaint(output)}")
        if moment == EXIT and not any(tracee.thread_pointer for tracee in self.stopped):
            raise InputError(f"{path}: it ended before its TLS was set up{_complaint(output)}")
        if moment == EXIT and self.program.dynamic and _complaint(output):
            raise InputError(f"{path}: it ended before its entry point{_complaint(output)}")
        self.moment = moment
        self._stop_the_others()

    def _stop_the_others(self) -> None:
        """Stop the threads beside the one that has come there. New ones get the time to register their area."""
        if len(living_tasks(self.pid)) > 1:
            for tracee in self.stops(SETTLE):
                self.step(tracee)
                self.restart(tracee)
        for _ in self.stop_threads(STOP_LIMIT):
            pass


def _complaint(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read(4096).decode("utf-8", "replace").strip().splitlines()
    return f": {lines[0][:200]}" if lines else ""


@contextmanager
def started_program(argv: Sequence[str]) -> Iterator[Started]:
    """Start a program, stop it where its TLS is set up, and kill it at the end. Its output is not shown.

    Raises InputError where it is no program of this machine or does not get there, MissingError where tracing is
    not allowed.
    """
    if not argv:
        raise InputError("no program was named")
    program = read_program(find_program(argv[0]))
    started = Started(program)
    with tempfile.TemporaryFile() as output, started.started(program.path, argv, os.environ, output.fileno()):
        started.reach(output)
        yield started
