"""Starting a program to look at it: up to a moment at which its TLS is set up, and no further."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rseq_matrix._native import ffi, lib
from rseq_matrix.elf.image import Image
from rseq_matrix.errors import InputError
from rseq_matrix.ptrace.memory import AT_ENTRY, Memory
from rseq_matrix.ptrace.objects import kernel_loaded, loaded_objects
from rseq_matrix.ptrace.seize import (
    ALL_KINDS,
    Held,
    launch,
    living_tasks,
    next_stop,
    pauses,
    program_counter,
    refused,
)
from rseq_matrix.signals import undisturbed

MACHINE = "x86-64"
TIME_LIMIT = 10.0  # seconds until the moment
END_LIMIT = 5.0
SETTLE = 0.05
SYSTEM_CALL_STOP = signal.SIGTRAP | 0x80  # PTRACE_O_TRACESYSGOOD
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_EXIT = 1, 2, 3, 4, 6
RSEQ_CALL = 334
SET_UP_CALLS = frozenset({RSEQ_CALL, 218, 273})  # set_tid_address, set_robust_list: __tls_init_tp makes these

ENTRY, MAIN, RSEQ, TLS, EXIT = "entry", "main", "rseq", "tls", "exit"


@dataclass(frozen=True)
class Plan:
    """What a file is: how its moment is found. `entry` and `main` are the file's own addresses."""

    path: str
    dynamic: bool
    entry: int
    main: int | None


@dataclass
class Started(Held):
    """A program that was started: its tasks, and the moment at which it stopped."""

    moment: str = ""
    calls: dict[int, int] = field(default_factory=dict)


def find_program(name: str) -> str:
    """Return the path of a program as a shell finds it. Raises InputError."""
    if "/" in name:
        if not Path(name).exists():
            raise InputError(f"{name}: there is no such file")
        return name
    found = shutil.which(name)
    if found is None:
        raise InputError(f"{name}: there is no such program on the PATH")
    return found


def plan(path: str) -> Plan:
    """Read what kind of program a file is. Raises InputError for one that is none, or another machine's."""
    with Image(path) as image:
        if image.machine.name != MACHINE:
            raise InputError(f"{path}: a program for {image.machine.name}; only {MACHINE} programs can be started here")
        table = image.all_symbols
        places = [int(table.table["value"][i]) for i, _ in table.named(frozenset({"main"})) if table.defined[i]]
        interpreter = image.interpreter
        if interpreter and not Path(interpreter).exists():
            raise InputError(f"{path}: its interpreter {interpreter} is not here")
        return Plan(path, interpreter is not None, int(image.header["e_entry"]), places[0] if places else None)


def start_traced(path: str, argv: Sequence[str], environment: Mapping[str, str], output: int) -> int:
    """Start a program under ptrace and return its process id. Raises InputError or MissingError where that fails."""
    pid, stage, why = launch(path, argv, environment, output)
    if pid >= 0:
        return pid
    raise InputError(f"{path}: cannot be executed: {why}") if stage else refused(why)


def new_task(started: Started, tid: int) -> None:
    """Hold the task that a task has just made: the kernel has attached it already."""
    message = ffi.new("uint64_t *")
    if lib.rsm_trace_message(tid, message) == 0 and message[0]:
        started.owed.setdefault(int(message[0]), 0)


def signal_of(stop: int) -> int:
    """Return the signal that a task was about to get when it stopped; 0 where it stopped for its tracer."""
    return stop if stop >> 8 == 0 and stop != SYSTEM_CALL_STOP else 0


def stops(started: Started, seconds: float) -> Iterator[tuple[int, int]]:
    """Yield (task, stop) of every held task that has stopped, until the time is up."""
    for _ in pauses(seconds):
        for tid in list(started.owed):
            if tid in started.still:
                continue
            try:
                stop = next_stop(tid)
            except ChildProcessError:
                started.owed.pop(tid, None)
                continue
            if stop is not None:
                yield tid, stop
        if started.pid not in started.owed or not living_tasks(started.pid):
            return


class _Journey:
    """From the exec to the moment. Each step returns the moment, or None to go on."""

    def __init__(self, started: Started, the_plan: Plan) -> None:
        self.started = started
        self.plan = the_plan
        self.target: int | None = None
        self.target_moment = ""
        self.by_calls = False
        self.executed = False

    def step(self, tid: int, stop: int) -> str | None:
        """Look at one stop."""
        event, number = stop >> 8, stop & 0xFF
        if event == EVENT_EXEC:
            self._after_exec(tid)
        elif event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
            new_task(self.started, tid)
        elif event == EVENT_EXIT:
            return EXIT if self._last_words(tid) else None
        elif number == SYSTEM_CALL_STOP:
            return self._at_call(tid)
        elif event == 0 and number == signal.SIGTRAP and self._at_target(tid):
            return self.target_moment
        return None

    def go_on(self, tid: int, stop: int) -> None:
        """Let a task go on after a stop that is not the moment, with the signal that it was about to get."""
        lib.rsm_trace_go_on(tid, signal_of(stop), int(self.by_calls and tid == self.started.pid))

    def _last_words(self, tid: int) -> bool:
        """Return whether the ending task is the last one of the program."""
        alive = [t for t in living_tasks(self.started.pid) if t != tid]
        return tid == self.started.pid or (tid in living_tasks(self.started.pid) and not alive)

    def _after_exec(self, tid: int) -> None:
        if self.executed:
            raise InputError(f"{self.plan.path}: it executes another program first; name that one")
        self.executed = True
        memory = Memory(self.started.pid, tid)
        try:
            bias = memory.auxiliary.get(AT_ENTRY, self.plan.entry) - self.plan.entry
        finally:
            memory.close()
        if self.plan.dynamic:
            self._break(tid, bias + self.plan.entry, ENTRY)
        elif self.plan.main is not None:
            self._break(tid, bias + self.plan.main, MAIN)
        else:
            self.by_calls = True

    def _break(self, tid: int, address: int, moment: str) -> None:
        if error := lib.rsm_trace_break_at(tid, address):
            raise InputError(f"{self.plan.path}: no breakpoint can be set at {address:#x}: {os.strerror(error)}")
        self.target, self.target_moment = address, moment

    def _at_target(self, tid: int) -> bool:
        return program_counter(tid) - 1 == self.target

    def _at_call(self, tid: int) -> str | None:
        """Follow the system calls of a stripped static program until TLS is set up (glibc csu/libc-tls.c)."""
        call, task = ffi.new("struct rsm_call *"), ffi.new("struct rsm_task *")
        if lib.rsm_trace_call(tid, call) or lib.rsm_trace_registers(tid, task):
            return None
        moment = None
        if call.side == lib.RSM_CALL_ENTRY:
            self.started.calls[tid] = int(call.number)
            if task.thread_pointer and call.number not in SET_UP_CALLS:
                moment = TLS
        elif task.thread_pointer and self.started.calls.get(tid) == RSEQ_CALL and call.result == 0:
            moment = RSEQ
        return None if moment and self._loader_goes_on(tid) else moment

    def _loader_goes_on(self, tid: int) -> bool:
        """Where ld.so itself was started: go on to the entry point of the program that it loads."""
        memory = Memory(self.started.pid, tid)
        try:
            program = loaded_objects(memory)[0]
            loader = kernel_loaded(memory)
            if not program.link_map or program.bias == loader.bias or not program.segments:
                return False
            entry = memory.word(_header(program.bias, program.segments[0].address, memory) + 24)
            self._break(tid, program.bias + entry, ENTRY)
        except InputError:
            return False
        finally:
            memory.close()
        self.by_calls = False
        return True


def _header(bias: int, headers: int, memory: Memory) -> int:
    """Return where the ELF header of the image lies whose program headers (PT_PHDR) are at bias + headers."""
    home = memory.mapping_at(bias + headers)
    return home.start if home else 0


def _complaint(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read(4096).decode("utf-8", "replace").strip().splitlines()
    return f": {lines[0][:200]}" if lines else ""


def _reach(started: Started, the_plan: Plan, output: IO[bytes]) -> None:
    """Run the program to its moment. Raises InputError where it ends or hangs before."""
    journey = _Journey(started, the_plan)
    for tid, stop in stops(started, TIME_LIMIT):
        moment = journey.step(tid, stop)
        if moment:
            started.moment = moment
            started.note_stop(tid, stop)
            break
        journey.go_on(tid, stop)
    else:
        if living_tasks(started.pid):
            raise InputError(f"{the_plan.path}: it does not get to a moment at which TLS is set up within 10 seconds")
        raise InputError(f"{the_plan.path}: it ended before its TLS was set up{_complaint(output)}")
    task = ffi.new("struct rsm_task *")
    if moment == EXIT and (lib.rsm_trace_registers(tid, task) or not task.thread_pointer):
        raise InputError(f"{the_plan.path}: it ended before its TLS was set up{_complaint(output)}")
    if moment == EXIT and the_plan.dynamic and _complaint(output):
        raise InputError(f"{the_plan.path}: it ended before its entry point{_complaint(output)}")
    _stop_the_others(started, journey)


def _stop_the_others(started: Started, journey: _Journey) -> None:
    """Stop the threads beside the one that has come to the moment. New ones get the time to register their area."""
    if len(living_tasks(started.pid)) > 1:
        for tid, stop in stops(started, SETTLE):
            journey.step(tid, stop)
            journey.go_on(tid, stop)
    for tid in living_tasks(started.pid):
        if tid in started.owed and tid not in started.still:
            lib.rsm_trace_interrupt(tid)
            started.wait_until_still(tid)


def end_program(started: Started) -> None:
    """Kill the program and all that it started, and wait for them. What stops at its exit is let through."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(started.pid, signal.SIGKILL)
    for tid in started.owed:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(tid, signal.SIGKILL)
    for tid in started.still:
        lib.rsm_trace_go_on(tid, 0, 0)  # one that stands at its exit does not hear the signal
    left = set(started.owed) | {started.pid}
    for _ in pauses(END_LIMIT):
        for tid in list(left):
            try:
                pid, status = os.waitpid(tid, os.WNOHANG | ALL_KINDS)
            except ChildProcessError:
                left.discard(tid)
                continue
            if pid and os.WIFSTOPPED(status):
                lib.rsm_trace_go_on(tid, 0, 0)
        if not left:
            return


@contextmanager
def started_program(argv: Sequence[str]) -> Iterator[Started]:
    """Start a program, hold it at its moment, and end it. Its output is not shown.

    Raises InputError where it is no program of this machine or does not get there, MissingError where tracing is
    not allowed.
    """
    if not argv:
        raise InputError("no program was named")
    the_plan = plan(find_program(argv[0]))
    with tempfile.TemporaryFile() as output:
        started = Started(0)
        try:
            with undisturbed():
                started.pid = start_traced(the_plan.path, argv, os.environ, output.fileno())
                started.owed[started.pid] = 0
            _reach(started, the_plan, output)
            yield started
        finally:
            with undisturbed():
                if started.pid:
                    end_program(started)
