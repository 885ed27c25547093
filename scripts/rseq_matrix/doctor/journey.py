"""A program from its exec to where it is left: what the doctor looks at on the way.

When libc has registered the main thread's area, a debug register watches the ids in it; every thread is looked at once
more when it ends.
"""

from __future__ import annotations

import os
from dataclasses import replace

from rseq_matrix.doctor.followed import Followed
from rseq_matrix.doctor.seccomp import known_strictness, seccomp_filters
from rseq_matrix.doctor.thread import examined_libc, examined_thread, layout_of, stores_seen
from rseq_matrix.documents.doctor import EARLY, END, ENTRY, GLIBC, LATE, NONE
from rseq_matrix.errors import InputError
from rseq_matrix.layout.blocks import Layout
from rseq_matrix.layout.picture import check_machine
from rseq_matrix.layout.program import read_program
from rseq_matrix.ptrace.follow import Follower, ProgramStart
from rseq_matrix.ptrace.memory import ProcessMemory
from rseq_matrix.ptrace.tasks import is_process, is_starting
from rseq_matrix.ptrace.tracee import TaskState, Tracee
from rseq_matrix.ptrace.watch import Watch
from rseq_matrix.signals import signal_name


class Journey(Follower):
    """From the exec to where the program is left: before its own code or, if `whole`, at its end."""

    sees_registrations = True

    def __init__(self, program: ProgramStart, whole: bool) -> None:
        super().__init__(program)
        self.whole = whole
        self.found = Followed(program.path, static=not program.dynamic)
        """What was seen of the program; anew once it has become another."""
        self.watch = Watch()
        self.layout: Layout | None = None
        """What was read of its memory."""

    def at_exec(self, memory: ProcessMemory) -> None:
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
        self.forget()
        self.watch = Watch()
        self.found = Followed(name, static=not self.program.dynamic, children=self.found.children)

    def at_new_task(self, tid: int) -> None:
        """Count the children."""
        self.found.children += is_process(tid)

    def at_registration(self, tracee: Tracee) -> str | None:
        """Watch the ids from now on."""
        registration = tracee.read().registration
        if registration is not None:
            self.watch.begin(tracee, registration.address)
            self.found.watched = not self.watch.error
            self.by_calls = self.own_code is None and not self.found.moment
        return None

    def at_trap(self, tracee: Tracee) -> str | None:
        """Note a store into the ids."""
        if self.found.watched:
            self.watch.note(tracee)
        return None

    def at_own_code(self, tracee: Tracee) -> str | None:
        """Look around where the program's own code begins; then leave it, or let it run on to its end."""
        self.by_calls = False
        self.look(tracee)
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
        self.look(tracee, ending=True)
        code = tracee.event_message
        if code is not None:
            self.found.killed_by = signal_name(code & 0x7F) if code & 0x7F else None
            self.found.exit_status = None if code & 0x7F else code >> 8 & 0xFF
        return END if self.is_last(tracee) else None

    # --- looking at a stopped thread

    def look(self, tracee: Tracee, ending: bool = False) -> None:
        """Look at a stopped thread, and keep what was seen."""
        try:
            task = tracee.read()
            layout = self._layout(task)
            self._keep(layout, task, ending)
            if self.watch.stores:
                self.found.writes = stores_seen(self.watch, layout.memory, layout.objects)
        except InputError:
            return  # before its memory is set up, or when it is gone

    def _layout(self, task: TaskState) -> Layout:
        """Return what is loaded. It is read anew where it may matter: not for each of a thousand alike threads."""
        if self.layout and not self.watch.stores and examined_thread(self.layout, task, "").owner == GLIBC:
            return self.layout
        self.forget()
        memory = ProcessMemory(self.pid, task.tid)
        try:
            self.layout = layout_of(memory)
        finally:
            if self.layout is None:
                memory.close()
        return self.layout

    def forget(self) -> None:
        """Close the memory that was read."""
        if self.layout:
            self.layout.memory.close()
        self.layout = None

    def _keep(self, layout: Layout, task: TaskState, ending: bool) -> None:
        found, tid, main = self.found, task.tid, task.tid == self.pid
        found.libc = examined_libc(layout)
        thread = examined_thread(layout, task, "main" if main else f"thread {tid}")
        if not main and thread.owner == NONE and is_starting(tid, ending):
            return
        others = [old for old in found.threads if old.tid != tid]
        found.threads = sorted([*others, thread], key=lambda one: (one.name != "main", one.tid or 0))
        seccomp = seccomp_filters(tid, thread.address or 0, thread.length)
        if not found.seccomp or known_strictness(seccomp) >= known_strictness(found.seccomp):
            found.seccomp = seccomp  # a task that a filter has killed does not hand it out any more
