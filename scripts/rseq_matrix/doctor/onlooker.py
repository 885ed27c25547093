"""Looking at the threads of a program that is followed, each while it stands still, and keeping what was seen."""

from __future__ import annotations

from rseq_matrix.doctor.followed import Followed
from rseq_matrix.doctor.seccomp import known_strictness, seccomp_filters
from rseq_matrix.doctor.thread import examined_libc, examined_thread, layout_of, stores_seen
from rseq_matrix.documents.doctor import GLIBC, NONE
from rseq_matrix.errors import InputError
from rseq_matrix.layout.blocks import Layout
from rseq_matrix.ptrace.follow import Tracees
from rseq_matrix.ptrace.memory import Memory
from rseq_matrix.ptrace.tasks import is_starting
from rseq_matrix.ptrace.tracee import TaskState, Tracee
from rseq_matrix.ptrace.watch import Watch


class Onlooker:
    """What was seen of a program, and the memory that was read for it."""

    def __init__(self, tracees: Tracees, found: Followed) -> None:
        self.tracees = tracees
        self.found = found
        self.watch = Watch()
        self.layout: Layout | None = None

    def look(self, tracee: Tracee, ending: bool = False) -> None:
        """Look at a thread that stands still."""
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
        memory = Memory(self.tracees.pid, task.tid)
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
        self.found.libc = examined_libc(layout)
        tid, main = task.tid, task.tid == self.tracees.pid
        thread = examined_thread(layout, task, "main" if main else f"thread {tid}")
        if not main and thread.owner == NONE and is_starting(tid, ending):
            return
        others = [old for old in self.found.threads if old.tid != tid]
        self.found.threads = sorted([*others, thread], key=lambda one: (one.name != "main", one.tid or 0))
        seccomp = seccomp_filters(tid, thread.address or 0, thread.length)
        if not self.found.seccomp or known_strictness(seccomp) >= known_strictness(self.found.seccomp):
            self.found.seccomp = seccomp  # a task that a filter has killed does not hand it out any more
