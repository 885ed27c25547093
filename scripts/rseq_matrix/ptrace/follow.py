"""The event loop over the stops of traced tasks, and the follower of a program that was started: one for all features.

A follower sees the program's execs, forks, vforks, clones and ends, and its system calls until they are of no interest
any more. What a feature does at them, it says in a subclass.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import get_native_id

from rseq_matrix._native import ffi, lib
from rseq_matrix.errors import InputError
from rseq_matrix.ptrace.memory import AT_ENTRY, ProcessMemory
from rseq_matrix.ptrace.start import start_traced
from rseq_matrix.ptrace.tasks import RSEQ_CALL, lives, living_tasks, status_field
from rseq_matrix.ptrace.tracee import (
    ALL_KINDS,
    BRIEF,
    EVENT_EXEC,
    EVENT_EXIT,
    NEW_TASK_EVENTS,
    PAUSE,
    SIGNAL_DELIVERY,
    SYSTEM_CALL,
    Stop,
    Tracee,
    pauses,
)
from rseq_matrix.signals import undisturbed

STOP_LIMIT = 5.0  # seconds; a task that does not stop in that time sleeps in the kernel
KILL_LIMIT = 5.0
MAIN_THREAD_LIMIT = 0.2
SET_UP_CALLS = frozenset({RSEQ_CALL, 218, 273})  # set_tid_address, set_robust_list: __tls_init_tp makes these


def _has_been_waited_for(tid: int) -> bool:
    """Wait for a task that may have ended. Return whether it has, or is not there to be waited for."""
    try:
        return os.waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG | ALL_KINDS) is not None
    except ChildProcessError:
        return True


class Tracees:
    """The tasks that are traced for one process: its threads and, of a program that is followed, its children."""

    def __init__(self, pid: int = 0) -> None:
        self.pid = pid
        self.tasks: dict[int, Tracee] = {}

    @property
    def stopped(self) -> list[Tracee]:
        """Return the tasks that are stopped."""
        return [tracee for tracee in self.tasks.values() if tracee.stop]

    @property
    def running(self) -> list[Tracee]:
        """Return the tasks that run."""
        return [tracee for tracee in self.tasks.values() if not tracee.stop]

    def stops(self, seconds: float) -> Iterator[Tracee]:
        """Yield each task that stops, until the time is up or no thread of the process lives."""
        end, looks = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            if tracee := self._next_stop():
                looks = 0
                yield tracee
                continue
            self._reap_children()
            if not lives(self.pid):
                return
            looks += 1
            time.sleep(0 if looks < BRIEF else PAUSE)

    def _next_stop(self) -> Tracee | None:
        """Return a task that has stopped, if there is one. A new one may stop before the one that made it.

        Whatever this program traces is taken for one of these: it follows one process at a time. A child that it does
        not trace may be stopped, too, and is none.
        """
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG | ALL_KINDS):
                tid = found.si_pid
                if tid in self.tasks or status_field(Path(f"/proc/{tid}"), "TracerPid") == str(get_native_id()):
                    tracee = self.tasks.setdefault(tid, Tracee(tid))
                    tracee.note(Stop.of(found.si_status))
                    return tracee
        return None

    def _reap_children(self) -> None:
        """Wait for what has ended: before its tracer has, the parent of a child does not hear of it (ptrace(2))."""
        for tracee in list(self.tasks.values()):
            if tracee.ending and tracee.tid != self.pid and _has_been_waited_for(tracee.tid):
                del self.tasks[tracee.tid]

    def await_stop(self, tracee: Tracee) -> bool:
        """Wait for a thread that was interrupted. Return False if it has ended. Raises InputError after STOP_LIMIT."""
        for _ in pauses(STOP_LIMIT):
            try:
                if tracee.poll():
                    return True
            except ChildProcessError:
                return False
        raise InputError(
            f"thread {tracee.tid} of process {self.pid} does not stop: it sleeps in the kernel; try again later"
        )

    def stop(self, tracee: Tracee) -> bool:
        """Stop a thread that runs. Return False if it ended, or sleeps in the kernel."""
        tracee.interrupt()
        try:
            return self.await_stop(tracee)
        except InputError:
            return False

    def reap(self, tracee: Tracee) -> None:
        """Wait for a thread that has ended: it stays a zombie, and keeps its process one, until its tracer did.

        A main thread is not waited for where others still run, nor where this program is its parent: the end of a
        process is its parent's to see (ptrace(2), "Death under ptrace").
        """
        main = tracee.tid == self.pid
        if main and status_field(Path(f"/proc/{self.pid}"), "PPid") in ("", str(os.getpid())):
            return
        for _ in pauses(MAIN_THREAD_LIMIT if main else STOP_LIMIT):
            if _has_been_waited_for(tracee.tid):
                return

    def detach(self) -> None:
        """Detach every task as if nothing had been. One that cannot be stopped is detached when this program ends."""
        for tracee in list(self.tasks.values()):
            if (tracee.stop or self.stop(tracee)) and tracee.detach():
                self.reap(tracee)
        self.tasks.clear()

    def kill(self) -> None:
        """Kill the process that was started, its process group and its children, and wait for them for a while."""
        if not self.pid:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for tracee in self.tasks.values():
            self._kill(tracee)
        left = {self.pid, *self.tasks}
        for _ in pauses(KILL_LIMIT):
            while unseen := self._next_stop():
                left.add(unseen.tid)
                self._kill(unseen)
            left = {tid for tid in left if not _has_been_waited_for(tid)}
            if not left:
                return

    def _kill(self, tracee: Tracee) -> None:
        """Kill a task's process, and restart it: in its PTRACE_EVENT_EXIT stop it does not hear the signal."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(tracee.tid, signal.SIGKILL)
        if tracee.stop:
            tracee.pending = 0
            tracee.restart()

    def start(self, path: str, argv: Sequence[str], environment: Mapping[str, str], output: int) -> None:
        """Start a program. Raises InputError or MissingError where it cannot be started."""
        with undisturbed():
            self.pid = start_traced(path, argv, environment, output)
            self.tasks[self.pid] = Tracee(self.pid)

    @contextmanager
    def started(self, path: str, argv: Sequence[str], environment: Mapping[str, str], output: int) -> Iterator[None]:
        """Start a program, and kill it at the end. Raises as start() does."""
        try:
            self.start(path, argv, environment, output)
            yield
        finally:
            with undisturbed():
                self.kill()


@dataclass(frozen=True)
class ProgramStart:
    """What was read of a program's file. `entry` and `main` are the file's own addresses."""

    path: str
    dynamic: bool
    entry: int
    main: int | None
    """None where it has no symbol of that name."""


class Follower(Tracees):
    """Follows a program from its exec on. Every method at_… returns where the program is left, or None to go on.

    A breakpoint is planted where the program's own code begins: at the entry point that ld.so jumps to, or at the
    main() of a static program. In one without symbols it begins after the system calls with which libc sets up TLS.
    """

    sees_registrations = False
    """It stops at system calls in a program with a breakpoint, too."""

    def __init__(self, program: ProgramStart) -> None:
        super().__init__()
        self.program = program
        self.own_code: int | None = None
        self.covered = b""
        """What the breakpoint has taken the place of."""
        self.by_calls = False
        """The main thread stops at its system calls."""

    # --- what a feature says

    def at_exec(self, memory: ProcessMemory) -> None:
        """The program, or another that it has become, has been loaded."""

    def at_new_task(self, tid: int) -> None:
        """A thread or a child was made."""

    def at_registration(self, tracee: Tracee) -> str | None:
        """A thread has registered an rseq area. Only seen while the program stops at its system calls."""

    def at_own_code(self, tracee: Tracee) -> str | None:
        """The program's own code begins: behind the breakpoint or, where there is none, at a system call."""

    def at_trap(self, tracee: Tracee) -> str | None:
        """A thread was stopped by a SIGTRAP that is not the breakpoint's."""

    def at_exit(self, tracee: Tracee) -> str | None:
        """A task ends."""

    # --- what happens

    def run(self, seconds: float) -> str | None:
        """Follow until a feature leaves the program. Return None if the time is up or the program has ended."""
        for tracee in self.stops(seconds):
            if place := self.step(tracee):
                return place
            self.restart(tracee)
        return None

    def stop_threads(self, seconds: float) -> Iterator[Tracee]:
        """Stop the program's threads that run, and yield each. Its children run on: a vfork stops their parent."""
        tasks = [self.tasks[tid] for tid in living_tasks(self.pid) if tid in self.tasks]
        threads = {tracee.tid for tracee in tasks if not tracee.stop}
        for tid in threads:
            self.tasks[tid].interrupt()
        for tracee in self.stops(seconds if threads else 0):
            if tracee.tid in threads:
                yield tracee
            else:
                self.step(tracee)
                self.restart(tracee)
            threads.discard(tracee.tid)
            if not threads:
                return

    def restart(self, tracee: Tracee) -> None:
        """Restart a task."""
        tracee.restart(self.by_calls and tracee.tid == self.pid)

    def step(self, tracee: Tracee) -> str | None:
        """Look at one stop."""
        stop = tracee.stop
        assert stop
        if stop.event == EVENT_EXEC and tracee.tid == self.pid:
            self._after_exec(tracee)
        elif stop.event in NEW_TASK_EVENTS:
            self._after_new_task(tracee)
        elif stop.event == EVENT_EXIT:
            return self.at_exit(tracee)
        elif stop.kind == SYSTEM_CALL:
            return self._at_call(tracee)
        elif stop.kind == SIGNAL_DELIVERY and stop.signal == signal.SIGTRAP:
            ours = self.own_code is not None and tracee.program_counter - 1 == self.own_code
            return self.at_own_code(tracee) if ours else self.at_trap(tracee)
        return None

    def _after_new_task(self, tracee: Tracee) -> None:
        """Know the task that a task has just made: the kernel has attached it already."""
        new = tracee.event_message
        if new:
            self.tasks.setdefault(new, Tracee(new))
            self.at_new_task(new)

    def _after_exec(self, tracee: Tracee) -> None:
        memory = ProcessMemory(self.pid, tracee.tid)
        try:
            self.at_exec(memory)
            bias = memory.auxiliary.get(AT_ENTRY, self.program.entry) - self.program.entry
            place = self.program.entry if self.program.dynamic else self.program.main
            self.own_code = None
            if place is not None:
                self.break_at(tracee, memory, bias + place)
            self.by_calls = self.sees_registrations or self.own_code is None
        finally:
            memory.close()

    def break_at(self, tracee: Tracee, memory: ProcessMemory, address: int) -> None:
        """Plant the breakpoint. Raises InputError."""
        self.covered = memory.read(address, 1)
        if error := lib.rsm_trace_break_at(tracee.tid, address):
            raise InputError(f"{self.program.path}: no breakpoint can be set at {address:#x}: {os.strerror(error)}")
        self.own_code = address

    def leave_breakpoint(self, tracee: Tracee) -> None:
        """Make a task that is stopped behind the breakpoint continue with the code that is there."""
        assert self.own_code is not None
        tracee.write(self.own_code, self.covered)
        tracee.move(self.own_code)
        tracee.pending = 0

    def _at_call(self, tracee: Tracee) -> str | None:
        """Note a system call, and see what it says about TLS and rseq (glibc csu/libc-tls.c)."""
        call = ffi.new("struct rsm_call *")
        if lib.rsm_trace_call(tracee.tid, call):
            return None
        if call.side == lib.RSM_CALL_ENTRY:
            tracee.call = int(call.number)
            early = self.own_code is None and tracee.call not in SET_UP_CALLS and tracee.thread_pointer
            return self.at_own_code(tracee) if early else None
        return self.at_registration(tracee) if tracee.call == RSEQ_CALL and call.result == 0 else None

    def is_last(self, tracee: Tracee) -> bool:
        """Return whether a task that ends is the last thread of the program."""
        return self.is_thread(tracee) and not lives(self.pid, without=tracee.tid)

    def is_thread(self, tracee: Tracee) -> bool:
        """Return whether a task is a thread of the program, and not of a child."""
        return Path(f"/proc/{self.pid}/task/{tracee.tid}").exists()
