"""A program that is started for the doctor: held where its own code begins, or followed to its end.

It is traced from its exec on. When libc has registered the main thread's area, a debug register watches the ids in it;
every thread is looked at once more in the moment in which it ends.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rseq_matrix._native import ffi, lib
from rseq_matrix.doctor.filters import answer_of, call_data, read_filters
from rseq_matrix.doctor.thread import layout_of, libc_document, thread_document
from rseq_matrix.doctor.writes import Watch, program_counter
from rseq_matrix.errors import InputError
from rseq_matrix.layout.blocks import Layout
from rseq_matrix.layout.memory import AT_ENTRY, Memory
from rseq_matrix.layout.picture import check_machine
from rseq_matrix.layout.starting import (
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
    end_program,
    find_program,
    new_task,
    plan,
    start_traced,
    stops,
)
from rseq_matrix.layout.tracing import living_tasks, status_field
from rseq_matrix.signals import signal_name, undisturbed

Document = dict[str, Any]

START_LIMIT = 10.0
"""Seconds until the program's own code begins."""
ENTRY, EARLY, END, LATE = "entry", "tls", "end", "time limit"
OUTPUT = 1 << 16
LAST_LINES = 6


@dataclass
class Followed:
    """What was seen of a program."""

    path: str
    pid: int = 0
    moment: str = ""
    """entry: it was held before its own code; tls: a stripped static program, after TLS was set up; end; time limit."""
    libc: Document | None = None
    threads: list[Document] = field(default_factory=list)
    writes: list[Document] = field(default_factory=list)
    watched: bool = False
    seccomp: Document | None = None
    exit_status: int | None = None
    killed_by: str | None = None
    output: str = ""
    static: bool = False
    secure: bool = False

    def document(self) -> Document:
        """Return what is known of its end, and of what it said last."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return {
            "program": self.path,
            "moment": self.moment,
            "static": self.static,
            "secure": self.secure,
            "watched": self.watched,
            "exit_status": self.exit_status,
            "killed_by": self.killed_by,
            "last_words": lines[-LAST_LINES:] if self.moment in (END, LATE) else [],
        }


def seccomp_document(tid: int, area: int) -> Document:
    """Return how many filters a stopped task has, and what they answer to the registration of an area."""
    count = int(status_field(Path(f"/proc/{tid}"), "Seccomp_filters") or 0)
    mode = int(status_field(Path(f"/proc/{tid}"), "Seccomp") or 0)
    if not mode:
        return {"filters": 0, "rseq": None, "unread": None}
    programs, unread = read_filters(tid)
    answer = None if unread else answer_of(programs, call_data(area))
    return {"filters": count or len(programs) or 1, "rseq": answer, "unread": unread}


class _Journey:
    """From the exec to the moment at which the program is left."""

    def __init__(self, started: Started, the_plan: Plan, whole: bool) -> None:
        self.started = started
        self.plan = the_plan
        self.whole = whole
        self.found = Followed(the_plan.path, static=not the_plan.dynamic)
        self.watch = Watch()
        self.target: int | None = None
        self.covered = 0
        self.by_calls = False
        self.passed = False

    def step(self, tid: int, stop: int) -> str | None:
        """Look at one stop. Return the moment where the program is to be left."""
        event, number = stop >> 8, stop & 0xFF
        if event == EVENT_EXEC:
            self._after_exec(tid)
        elif event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
            new_task(self.started, tid)
        elif event == EVENT_EXIT:
            return self._at_exit(tid)
        elif number == SYSTEM_CALL_STOP:
            return self._at_call(tid)
        elif event == 0 and number == signal.SIGTRAP:
            return self._at_trap(tid)
        return None

    def go_on(self, tid: int, stop: int) -> None:
        """Let a task go on, with the signal that it was about to get, but not with what this tracer caused."""
        owed = stop if stop >> 8 == 0 and stop != SYSTEM_CALL_STOP else 0
        if owed == signal.SIGTRAP and self.passed:
            owed, self.passed = 0, False
        lib.rsm_trace_go_on(tid, owed, int(self.by_calls and tid == self.started.pid))

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
        self.plan = plan(os.path.realpath(f"/proc/{self.started.pid}/exe"))
        self.found = Followed(self.plan.path, static=not self.plan.dynamic)
        self.watch, self.target, self.passed = Watch(), None, False

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
        self.watch.begin(tid, registration.address)
        self.found.watched = not self.watch.error
        self.by_calls = self.target is None and not self.found.moment

    def _at_trap(self, tid: int) -> str | None:
        if self.found.watched and self.watch.note(tid):
            self.passed = True
            return None
        if self.target is None or program_counter(tid) - 1 != self.target:
            return None
        return self._reached(tid, ENTRY)

    def _reached(self, tid: int, moment: str) -> str | None:
        """Look around where the program's own code begins; then leave it, or let it run on to its end."""
        self.by_calls = False
        self.look(tid)
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
        if tid not in living_tasks(pid):
            return None
        self.look(tid)
        status = ffi.new("uint64_t *")
        if lib.rsm_trace_message(tid, status) == 0:
            code = int(status[0])
            self.found.killed_by = signal_name(code & 0x7F) if code & 0x7F else None
            self.found.exit_status = None if code & 0x7F else code >> 8 & 0xFF
        return None if [other for other in living_tasks(pid) if other != tid] else END

    def look(self, tid: int) -> None:
        """Look at a thread that stands still."""
        memory = Memory(self.started.pid, tid)
        try:
            layout = layout_of(memory)
            self._keep(layout, tid, "main" if tid == self.started.pid else f"thread {tid}")
            self.found.writes = self.watch.documents(memory, layout.objects)
        except InputError:
            return  # before its memory is set up, or when it is gone
        finally:
            memory.close()

    def _keep(self, layout: Layout, tid: int, name: str) -> None:
        task = self.started.look(tid)
        self.found.libc = libc_document(layout)
        thread = thread_document(layout, task, name)
        self.found.threads = [old for old in self.found.threads if old["tid"] != tid] + [thread]
        seccomp = seccomp_document(tid, thread["address"] or 0)
        if seccomp["rseq"] or not self.found.seccomp or not self.found.seccomp["rseq"]:
            self.found.seccomp = seccomp  # a task that a filter has killed does not hand it out any more


def _look_at_the_rest(journey: _Journey) -> None:
    """Look at the threads of a program whose time is up."""
    started = journey.started
    for tid in living_tasks(started.pid):
        if tid in started.owed and tid not in started.still:
            lib.rsm_trace_interrupt(tid)
            if started.wait_until_still(tid):
                journey.look(tid)


def _travel(journey: _Journey, limit: float) -> None:
    started = journey.started
    for tid, stop in stops(started, limit):
        moment = journey.step(tid, stop)
        if moment:
            journey.found.moment = moment
            started.note_stop(tid, stop)
            return
        journey.go_on(tid, stop)
    if not living_tasks(started.pid):
        journey.found.moment = END
    elif journey.found.moment == LATE:
        _look_at_the_rest(journey)
    else:
        raise InputError(f"{journey.plan.path}: its own code has not begun within {limit:.0f} seconds")


def _text(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read(OUTPUT).decode("utf-8", "replace")


def follow(argv: Sequence[str], whole: bool = False, limit: float = START_LIMIT) -> Followed:
    """Start a program, look at it where its own code begins or, if `whole`, follow it to its end or the time limit.

    It is ended then. Raises InputError for what is no program of this machine, MissingError where tracing is not
    allowed.
    """
    if not argv:
        raise InputError("no program was named")
    the_plan = plan(find_program(argv[0]))
    with tempfile.TemporaryFile() as output:
        started = Started(0)
        journey = _Journey(started, the_plan, whole)
        try:
            with undisturbed():
                started.pid = start_traced(the_plan.path, argv, os.environ, output.fileno())
                started.owed[started.pid] = 0
            _travel(journey, limit)
        finally:
            with undisturbed():
                if started.pid:
                    end_program(started)
        journey.found.output = _text(output)
    return journey.found
