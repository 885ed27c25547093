"""A program that is started for the doctor: held where its own code begins, or followed to its end.

It is traced from its exec on. When libc has registered the main thread's area, a debug register watches the ids in it;
every thread is looked at once more in the moment in which it ends.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from rseq_matrix._native import ffi, lib
from rseq_matrix.doctor.filters import ORIGINAL, answer_of, call_data, read_filters, strictness
from rseq_matrix.doctor.thread import GLIBC, NONE, layout_of, libc_document, thread_document
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
)
from rseq_matrix.layout.tracing import (
    ALL_KINDS,
    BRIEF,
    GONE,
    MOMENT,
    Task,
    living_tasks,
    stat_fields,
    status_field,
)
from rseq_matrix.signals import signal_name, undisturbed

Document = dict[str, Any]

START_LIMIT = 10.0
"""Seconds until the program's own code begins."""
LAST_LOOK = 0.5
"""Seconds in which threads stop, when the time is up; one that sleeps in the kernel does not."""
ENTRY, EARLY, END, LATE = "entry", "tls", "end", "time limit"
OUTPUT = 1 << 16
LAST_LINES = 6
SECCOMP_FILTER = "2"
"""The mode with filters; 1 is the strict mode, which has none (proc_pid_status(5))."""
STARTING_CALLS = frozenset({56, 435, 273, RSEQ_CALL})
"""clone, clone3, set_robust_list: where a thread stands that glibc has not registered yet (start_thread)."""
NO_CALL = -1
INTERPRETERS = 4
"""As many scripts may interpret each other (execve(2), "Interpreter scripts")."""


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
    children: int = 0
    """Other processes that it started; nobody looks at them."""
    left: int = 0
    """Those of them that still ran when it had ended."""

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
            "children": self.children,
            "left": self.left,
            "last_words": lines[-LAST_LINES:] if self.moment in (END, LATE) else [],
        }


def seccomp_document(tid: int, area: int, length: int | None = None) -> Document:
    """Return how many filters a stopped task has, and what they answer to the registration of an area."""
    if status_field(Path(f"/proc/{tid}"), "Seccomp") != SECCOMP_FILTER:
        return {"filters": 0, "thread": None, "rseq": None, "unread": None}
    count = int(status_field(Path(f"/proc/{tid}"), "Seccomp_filters") or 0)
    programs, unread = read_filters(tid)
    answer = None if unread else answer_of(programs, call_data(area, length or ORIGINAL))
    return {"filters": count or len(programs) or 1, "thread": None, "rseq": answer, "unread": unread}


def _known_strictness(seccomp: Document) -> tuple[tuple[int, int], bool]:
    return strictness(seccomp), seccomp["rseq"] is not None


def _is_process(tid: int) -> bool:
    """Return whether a task is the first of a process that lives, and no thread."""
    directory = Path(f"/proc/{tid}")
    return status_field(directory, "Tgid") == str(tid) and (stat_fields(directory) or ["X"])[0] not in GONE


def _lives(pid: int, without: int = 0) -> bool:
    """Return whether a process has a living thread but one. It stops looking at the first."""
    try:
        tasks = [task for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != without]
    except OSError:
        return False
    return any((stat_fields(task) or ["X"])[0] not in GONE for task in tasks)


def _is_starting(tid: int, ending: bool) -> bool:
    """Return whether a stopped thread has not come to its registration yet.

    One that ends between two system calls, because its process does, counts, too: it may only just have begun.
    """
    try:
        word = Path(f"/proc/{tid}/syscall").read_text(encoding="ascii").split()[0]
    except (OSError, IndexError):
        return False
    number = int(word) if word.lstrip("-").isdigit() else NO_CALL
    return number in STARTING_CALLS or (ending and number == NO_CALL)


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


def _script_plan(path: str, depth: int = INTERPRETERS) -> Plan:
    """Return how a program is followed; a script as the program that its first line names, which the kernel starts."""
    words = _interpreter_line(path).split()
    if not words or not depth:
        return plan(path)
    interpreter = os.fsdecode(words[0])
    if not Path(interpreter).exists():
        raise InputError(f"{path}: a script for {interpreter}, which is not here")
    return replace(_script_plan(interpreter, depth - 1), path=path)


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
        self.ending: set[int] = set()
        self.layout: Layout | None = None

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
            if not _lives(self.started.pid):
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
        owed = stop if stop >> 8 == 0 and stop != SYSTEM_CALL_STOP else 0
        if owed == signal.SIGTRAP and self.passed:
            owed, self.passed = 0, False
        lib.rsm_trace_go_on(tid, owed, int(self.by_calls and tid == self.started.pid))

    def _new_task(self, tid: int) -> None:
        known = set(self.started.owed)
        new_task(self.started, tid)
        self.found.children += sum(map(_is_process, set(self.started.owed) - known))

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
        self.found = Followed(self.plan.path, static=not self.plan.dynamic, children=self.found.children)
        self.watch, self.target, self.passed = Watch(), None, False
        self.forget_layout()

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
        if tid != pid:
            self.ending.add(tid)
        if not Path(f"/proc/{pid}/task/{tid}").exists():
            return None
        self.look(tid, ending=True)
        status = ffi.new("uint64_t *")
        if lib.rsm_trace_message(tid, status) == 0:
            code = int(status[0])
            self.found.killed_by = signal_name(code & 0x7F) if code & 0x7F else None
            self.found.exit_status = None if code & 0x7F else code >> 8 & 0xFF
        return None if _lives(pid, without=tid) else END

    def look(self, tid: int, ending: bool = False) -> None:
        """Look at a thread that stands still."""
        try:
            task = self.started.look(tid)
            layout = self._layout(task)
            self._keep(layout, task, ending)
            if self.watch.stores:
                self.found.writes = self.watch.documents(layout.memory, layout.objects)
        except InputError:
            return  # before its memory is set up, or when it is gone

    def _layout(self, task: Task) -> Layout:
        """Return what is loaded. It is read anew where it may matter: not for each of a thousand alike threads."""
        if self.layout and not self.watch.stores and thread_document(self.layout, task, "")["owner"] == GLIBC:
            return self.layout
        self.forget_layout()
        memory = Memory(self.started.pid, task.tid)
        try:
            self.layout = layout_of(memory)
        finally:
            if self.layout is None:
                memory.close()
        return self.layout

    def forget_layout(self) -> None:
        """Close the memory that was read."""
        if self.layout:
            self.layout.memory.close()
        self.layout = None

    def _keep(self, layout: Layout, task: Task, ending: bool) -> None:
        self.found.libc = libc_document(layout)
        tid, main = task.tid, task.tid == self.started.pid
        thread = thread_document(layout, task, "main" if main else f"thread {tid}")
        if not main and thread["owner"] == NONE and _is_starting(tid, ending):
            return
        others = [old for old in self.found.threads if old["tid"] != tid]
        self.found.threads = sorted([*others, thread], key=lambda one: (one["name"] != "main", one["tid"]))
        seccomp = seccomp_document(tid, thread["address"] or 0, thread["length"])
        if not self.found.seccomp or _known_strictness(seccomp) >= _known_strictness(self.found.seccomp):
            self.found.seccomp = seccomp  # a task that a filter has killed does not hand it out any more


def _look_at_the_rest(journey: _Journey) -> None:
    """Look at the threads of a program whose time is up. Its children go on meanwhile: vfork's hold their parent."""
    started = journey.started
    wanted = set(living_tasks(started.pid)) - started.still
    for tid in wanted:
        lib.rsm_trace_interrupt(tid)
    for tid, stop in journey.stops(LAST_LOOK):
        if tid in wanted:
            started.note_stop(tid, stop)
            journey.look(tid)
            wanted.discard(tid)
        else:
            journey.step(tid, stop)
            journey.go_on(tid, stop)
        if not wanted:
            return


def _travel(journey: _Journey, limit: float) -> None:
    started, found = journey.started, journey.found
    for tid, stop in journey.stops(limit):
        moment = journey.step(tid, stop)
        found = journey.found  # another, if the program has become another
        if moment:
            found.moment = moment
            started.note_stop(tid, stop)
            break
        journey.go_on(tid, stop)
    else:
        _when_nothing_stops(journey, limit)
    if found.moment == END:
        found.left = sum(map(_is_process, set(started.owed) - {started.pid}))


def _when_nothing_stops(journey: _Journey, limit: float) -> None:
    """Say why no stop comes any more: the program has ended, or the time is up."""
    found = journey.found
    if not _lives(journey.started.pid):
        found.moment = END
    elif found.moment == LATE:
        found.exit_status = found.killed_by = None  # a thread's
        _look_at_the_rest(journey)
    else:
        raise InputError(f"{journey.plan.path}: its own code has not begun within {limit:g} seconds")


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
    the_plan = _script_plan(find_program(argv[0]))
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
                journey.forget_layout()
                if started.pid:
                    end_program(started)
        journey.found.output = _text(output)
    return journey.found
