"""A program from its exec to the moment in which it is left: what is done at each of its stops.

When libc has registered the main thread's area, a debug register watches the ids in it; every thread is looked at once
more in the moment in which it ends.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rseq_matrix._native import ffi, lib
from rseq_matrix.doctor.followed import EARLY, END, ENTRY, LATE, Followed
from rseq_matrix.doctor.onlooker import Onlooker
from rseq_matrix.doctor.seccomp import seccomp_document
from rseq_matrix.errors import InputError
from rseq_matrix.layout.picture import check_machine
from rseq_matrix.ptrace.memory import AT_ENTRY, Memory
from rseq_matrix.ptrace.seize import ALL_KINDS, BRIEF, MOMENT, program_counter
from rseq_matrix.ptrace.start import (
    EVENT_CLONE,
    EVENT_EXEC,
    EVENT_EXIT,
    EVENT_FORK,
    EVENT_VFORK,
    RSEQ_CALL,
    SET_UP_CALLS,
    SYSTEM_CALL_STOP,
    Plan,
    Started,
    new_task,
    plan,
    signal_of,
)
from rseq_matrix.ptrace.tasks import is_process, lives
from rseq_matrix.signals import signal_name


class Journey:
    """From the exec to the moment at which the program is left."""

    def __init__(self, started: Started, the_plan: Plan, whole: bool) -> None:
        self.started = started
        self.plan = the_plan
        self.whole = whole
        self.onlooker = Onlooker(started, Followed(the_plan.path, static=not the_plan.dynamic))
        self.target: int | None = None
        self.covered = 0
        self.by_calls = False
        self.passed = False
        self.ending: set[int] = set()

    @property
    def found(self) -> Followed:
        """Return what was seen of the program, which is another one once it has become another."""
        return self.onlooker.found

    def stops(self, seconds: float) -> Iterator[tuple[int, int]]:
        """Yield (task, stop) of whatever has stopped, until the time is up or the program has ended."""
        until, idle = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            try:
                found = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG | ALL_KINDS)
            except ChildProcessError:
                return
            if found is not None:
                idle = 0
                self.started.owed.setdefault(found.si_pid, 0)
                yield found.si_pid, found.si_status
                continue
            self._see_ends()
            if not lives(self.started.pid):
                return
            idle += 1
            time.sleep(0 if idle < BRIEF else MOMENT)

    def _see_ends(self) -> None:
        """Wait for what has ended: before its tracer has, the parent of a child does not hear of it (ptrace(2))."""
        for tid in list(self.ending):
            try:
                gone = os.waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG | ALL_KINDS) is not None
            except ChildProcessError:
                gone = True
            if gone:
                self.ending.discard(tid)
                self.started.owed.pop(tid, None)

    def step(self, tid: int, stop: int) -> str | None:
        """Look at one stop. Return the moment where the program is to be left."""
        event, number = stop >> 8, stop & 0xFF
        if event == EVENT_EXEC:
            self._after_exec(tid)
        elif event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
            self._new_task(tid)
        elif event == EVENT_EXIT:
            return self._at_exit(tid)
        elif number == SYSTEM_CALL_STOP:
            return self._at_call(tid)
        elif event == 0 and number == signal.SIGTRAP:
            return self._at_trap(tid)
        return None

    def go_on(self, tid: int, stop: int) -> None:
        """Let a task go on, with the signal that it was about to get, but not with what this tracer caused."""
        owed = signal_of(stop)
        if owed == signal.SIGTRAP and self.passed:
            owed, self.passed = 0, False
        lib.rsm_trace_go_on(tid, owed, int(self.by_calls and tid == self.started.pid))

    def _new_task(self, tid: int) -> None:
        known = set(self.started.owed)
        new_task(self.started, tid)
        self.found.children += sum(map(is_process, set(self.started.owed) - known))

    def _after_exec(self, tid: int) -> None:
        if tid != self.started.pid:
            return  # a program that this one starts
        if self.found.pid:
            self._become_another()
        self.found.pid = tid
        self.found.seccomp = seccomp_document(tid, 0)
        memory = Memory(tid, tid)
        try:
            check_machine(memory)
            bias = memory.auxiliary.get(AT_ENTRY, self.plan.entry) - self.plan.entry
            self.found.secure = bool(memory.auxiliary.get(23))  # AT_SECURE
            place = self.plan.entry if self.plan.dynamic else self.plan.main
            if place is not None:
                self.target = bias + place
                self.covered = memory.word(self.target, "B")
        finally:
            memory.close()
        if self.target is not None:
            lib.rsm_trace_break_at(tid, self.target)
        self.by_calls = True

    def _become_another(self) -> None:
        """Begin anew: the program has put another in its place, as env and sandboxes do."""
        file = f"/proc/{self.started.pid}/exe"  # its path may mean another file here: it may have a root of its own
        name = os.path.realpath(file)
        try:
            self.plan = replace(plan(file), path=name)
        except InputError as error:
            raise InputError(str(error).replace(file, name)) from error
        self.onlooker.forget()
        another = Followed(self.plan.path, static=not self.plan.dynamic, children=self.found.children)
        self.onlooker = Onlooker(self.started, another)
        self.target, self.passed = None, False

    def _at_call(self, tid: int) -> str | None:
        """Wait for the registration: from then on the ids are watched."""
        call, task = ffi.new("struct rsm_call *"), ffi.new("struct rsm_task *")
        if lib.rsm_trace_call(tid, call) or lib.rsm_trace_registers(tid, task):
            return None
        if call.side == lib.RSM_CALL_ENTRY:
            self.started.calls[tid] = int(call.number)
            early = self.target is None and task.thread_pointer and call.number not in SET_UP_CALLS
            return self._reached(tid, EARLY) if early else None
        if self.started.calls.get(tid) == RSEQ_CALL and call.result == 0:
            self._watch(tid)
        return None

    def _watch(self, tid: int) -> None:
        registration = self.started.look(tid).registration
        if registration is None:
            return
        watch = self.onlooker.watch
        watch.begin(tid, registration.address)
        self.found.watched = not watch.error
        self.by_calls = self.target is None and not self.found.moment

    def _at_trap(self, tid: int) -> str | None:
        if self.found.watched and self.onlooker.watch.note(tid):
            self.passed = True
            return None
        if self.target is None or program_counter(tid) - 1 != self.target:
            return None
        return self._reached(tid, ENTRY)

    def _reached(self, tid: int, moment: str) -> str | None:
        """Look around where the program's own code begins; then leave it, or let it run on to its end."""
        self.by_calls = False
        self.onlooker.look(tid)
        if not self.whole:
            return moment
        if moment == ENTRY and self.target is not None:
            lib.rsm_trace_write(tid, self.target, ffi.from_buffer(bytes([self.covered])), 1)
            lib.rsm_trace_move(tid, self.target)
            self.passed = True
        self.found.moment = LATE
        return None

    def _at_exit(self, tid: int) -> str | None:
        """Look at a thread in the moment in which it ends."""
        pid = self.started.pid
        if tid != pid:
            self.ending.add(tid)
        if not Path(f"/proc/{pid}/task/{tid}").exists():
            return None
        self.onlooker.look(tid, ending=True)
        status = ffi.new("uint64_t *")
        if lib.rsm_trace_message(tid, status) == 0:
            code = int(status[0])
            self.found.killed_by = signal_name(code & 0x7F) if code & 0x7F else None
            self.found.exit_status = None if code & 0x7F else code >> 8 & 0xFF
        return None if lives(pid, without=tid) else END
