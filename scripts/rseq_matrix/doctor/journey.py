"""A program from its exec to where it is left: what the doctor looks at on the way.

When libc has registered the main thread's area, a debug register watches the ids in it; every thread is looked at once
more when it ends.
"""

from __future__ import annotations

import os
from dataclasses import replace

from rseq_matrix.doctor.followed import Followed
from rseq_matrix.doctor.onlooker import Onlooker
from rseq_matrix.doctor.seccomp import seccomp_filters
from rseq_matrix.documents.doctor import EARLY, END, ENTRY, LATE
from rseq_matrix.errors import InputError
from rseq_matrix.layout.picture import check_machine
from rseq_matrix.layout.program import read_program
from rseq_matrix.ptrace.follow import Follower, Program
from rseq_matrix.ptrace.memory import Memory
from rseq_matrix.ptrace.tasks import is_process
from rseq_matrix.ptrace.tracee import Tracee
from rseq_matrix.signals import signal_name


class Journey(Follower):
    """From the exec to where the program is left: before its own code or, if `whole`, at its end."""

    sees_registrations = True

    def __init__(self, program: Program, whole: bool) -> None:
        super().__init__(program)
        self.whole = whole
        self.onlooker = Onlooker(self, Followed(program.path, static=not program.dynamic))

    @property
    def found(self) -> Followed:
        """Return what was seen of the program, which is another one once it has become another."""
        return self.onlooker.found

    def at_exec(self, memory: Memory) -> None:
        """Begin, or begin anew."""
        if self.found.pid:
            self._become_another()
        self.found.pid = self.pid
        self.found.seccomp = seccomp_filters(self.pid, 0)
        check_machine(memory)
        self.found.secure = bool(memory.auxiliary.get(23))  # AT_SECURE

    def _become_another(self) -> None:
        """Begin anew: the program has put another in its place, as env and sandboxes do."""
        file = f"/proc/{self.pid}/exe"  # its path may mean another file here: it may have a root of its own
        name = os.path.realpath(file)
        try:
            self.program = replace(read_program(file), path=name)
        except InputError as error:
            raise InputError(str(error).replace(file, name)) from error
        self.onlooker.forget()
        another = Followed(name, static=not self.program.dynamic, children=self.found.children)
        self.onlooker = Onlooker(self, another)

    def at_new_task(self, tid: int) -> None:
        """Count the children."""
        self.found.children += is_process(tid)

    def at_registration(self, tracee: Tracee) -> str | None:
        """Watch the ids from now on."""
        registration = tracee.read().registration
        if registration is not None:
            watch = self.onlooker.watch
            watch.begin(tracee, registration.address)
            self.found.watched = not watch.error
            self.by_calls = self.own_code is None and not self.found.moment
        return None

    def at_trap(self, tracee: Tracee) -> str | None:
        """Note a store into the ids."""
        if self.found.watched:
            self.onlooker.watch.note(tracee)
        return None

    def at_own_code(self, tracee: Tracee) -> str | None:
        """Look around where the program's own code begins; then leave it, or let it run on to its end."""
        self.by_calls = False
        self.onlooker.look(tracee)
        if not self.whole:
            return EARLY if self.own_code is None else ENTRY
        if self.own_code is not None:
            self.leave_breakpoint(tracee)
        self.found.moment = LATE
        return None

    def at_exit(self, tracee: Tracee) -> str | None:
        """Look at a thread that ends."""
        if not self.is_thread(tracee):
            return None
        self.onlooker.look(tracee, ending=True)
        code = tracee.event_message
        if code is not None:
            self.found.killed_by = signal_name(code & 0x7F) if code & 0x7F else None
            self.found.exit_status = None if code & 0x7F else code >> 8 & 0xFF
        return END if self.is_last(tracee) else None
