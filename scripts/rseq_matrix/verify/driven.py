"""The program `interrupted` (csrc/verify/interrupted.c) under ptrace: its threads do what they are told, one by one.

Each thread has a role and is stopped at its gate until it gets a command. Nothing runs that was not restarted from
here, so what happened is known, and so is in what order.

It waits in C (rsm_trace_await) and not in the loop of ptrace/follow.py: what is proven here by time
(one_interruption.AT_ONCE) takes less of it than that loop sleeps, and the end of a thread is something to see.
"""

from __future__ import annotations

import mmap
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rseq_matrix._native import ffi, lib
from rseq_matrix.elf.facts import Section
from rseq_matrix.errors import InputError, MissingError
from rseq_matrix.ptrace.follow import Tracees
from rseq_matrix.ptrace.memory import ProcessMemory, UnreadableError
from rseq_matrix.ptrace.tasks import stat_fields, status_field
from rseq_matrix.ptrace.tracee import EVENT, SIGNAL_DELIVERY, RegisteredArea, Stop, Tracee
from rseq_matrix.signals import signal_name, undisturbed
from rseq_matrix.verify.subject import Subject

OPERATOR, UNREGISTERED_OPERATOR = int(lib.RSM_OPERATOR), int(lib.RSM_UNREGISTERED_OPERATOR)
HELPER, UNREGISTERED_HELPER, HANDLER = int(lib.RSM_HELPER), int(lib.RSM_UNREGISTERED_HELPER), int(lib.RSM_HANDLER)
THREADS = (OPERATOR, UNREGISTERED_OPERATOR, HELPER, UNREGISTERED_HELPER)
INTERRUPTION = int(signal.SIGUSR1)

GATE, TRAP, STEP = "gate", "trap", "step"
"""Kinds of a signal-delivery-stop by SIGTRAP: at a gate; at a breakpoint (the address is its own); behind a step."""
BREAKPOINT = b"\xcc"
SPIN = b"\xeb\xfe"  # jmp to itself

PRELOADS = "a process that preloads it"
START_LIMIT = 10.0  # seconds
COMMAND_LIMIT = 1.0
SPIN_LIMIT = 0.25  # of its own run time
STARVED_LIMIT = 10.0
STEP_BUFFER = 20_000
RSEQ_CS = 8  # its offset in struct rseq
NAP = 0.05  # seconds; between two of them Ctrl-C is heard


class CrashedError(Exception):
    """A thread got a signal that kills, or the process is gone."""

    def __init__(self, number: int, address: int) -> None:
        self.signal = signal_name(number) if number else "its end"
        self.address = address
        super().__init__(f"{self.signal} at {address:#x}")


class StuckError(Exception):
    """A thread did not come back to its gate in time."""

    def __init__(self, role: int) -> None:
        self.role = role
        super().__init__(f"thread {role} did not come back")


class StarvedError(Exception):
    """A thread got no processor for so long that nothing can be said."""

    def __init__(self) -> None:
        super().__init__(f"this machine is too busy: a thread did not get to run for {STARVED_LIMIT:.0f} seconds")


class StartError(Exception):
    """A process that preloads the subject does not come to its start. `name` is the defect's."""

    def __init__(self, name: str, sentence: str) -> None:
        self.name = name
        super().__init__(sentence)


@dataclass(frozen=True)
class WalkedOperation:
    """Where single-stepping led: the address of the next instruction after each step, and why it ended."""

    addresses: list[int]
    end: int
    """enum rsm_walk_end."""


class DrivenProcess(Tracees):
    """The process. Addresses are those in its memory, except where a Section's are meant."""

    def __init__(self, box_memory: Any, cpus: tuple[int, ...]) -> None:
        super().__init__()
        self.box_memory = box_memory
        self.cpus = cpus
        self.threads: dict[int, Tracee] = {}
        """By role."""
        self.halting = -1
        self.found = False
        """The last look found a stop: there may be more."""
        self.patches: dict[int, bytes] = {}
        """What was in the place of each breakpoint and endless loop."""
        self.traps: set[int] = set()
        """Where breakpoints are or were: a thread that came to one may be seen only when it is gone."""
        self.areas: dict[int, RegisteredArea] = {}
        """Of the threads that have one registered."""
        self.memory: ProcessMemory | None = None

    def stop_of(self, role: int) -> Stop | None:
        """Return how a thread is stopped; None where it runs."""
        thread = self.threads.get(role)
        return thread.stop if thread else None

    # --- what it says

    @property
    def mailbox(self) -> Any:
        """Return the struct rsm_mailbox."""
        return self.box_memory[0]

    @property
    def bias(self) -> int:
        """Return what is added to the addresses of the subject's file."""
        return int(self.mailbox.bias)

    def is_subject(self, address: int) -> bool:
        """Return whether code is the subject's."""
        return bool(self.mailbox.text <= address < self.mailbox.text_end)

    def values(self, role: int) -> list[int]:
        """Return what a thread's last command gave."""
        box = self.mailbox.box[role]
        return [int(value) for value in box.value[0 : box.count]]

    def error(self, role: int) -> int:
        """Return the errno of a thread's last command."""
        return int(self.mailbox.box[role].error)

    # --- memory

    def word(self, address: int) -> int:
        """Return a 64-bit word, 0 where there is none."""
        assert self.memory
        try:
            return self.memory.word(address)
        except UnreadableError:
            return 0

    def _write(self, address: int, data: bytes) -> None:
        if error := self.stopped[0].write(address, data):
            raise MissingError(f"the code of a traced process cannot be written: {os.strerror(error)}")

    def patch(self, address: int, code: bytes) -> None:
        """Put other code in an instruction's place. Some thread has to be stopped."""
        assert self.memory
        self.patches.setdefault(address, self.memory.read(address, len(code)))
        if code == BREAKPOINT:
            self.traps.add(address)
        self._write(address, code)

    def restore(self, address: int) -> None:
        """Put the instruction back."""
        if code := self.patches.pop(address, None):
            self._write(address, code)

    def restore_all(self) -> None:
        """Put all instructions back."""
        for address in list(self.patches):
            self.restore(address)

    def is_armed(self, role: int, section: Section) -> bool:
        """Return whether a thread's rseq_cs leads to a section: to its descriptor, or a copy of that on the stack."""
        area = self.areas.get(role)
        pointer = self.word(area.address + RSEQ_CS) if area else 0
        if not pointer:
            return False
        return pointer == self.bias + section.descriptor or self.word(pointer + 8) == self.bias + section.start

    # --- running

    def pin(self, role: int, cpu: int) -> None:
        """Bind a thread to a CPU."""
        os.sched_setaffinity(self.threads[role].tid, {cpu})

    def order(self, role: int, command: int, *arguments: int) -> None:
        """Write a command into a thread's box, for when it is restarted."""
        box = self.mailbox.box[role]
        box.command = command
        box.code_at = 0
        for index, argument in enumerate(arguments):
            box.argument[index] = argument

    def restart(self, role: int, number: int = 0) -> None:
        """Restart a thread, with a signal."""
        self.threads[role].pending = number
        self.threads[role].restart()

    def begin(self, role: int, command: int, *arguments: int) -> None:
        """Let a thread that is at its gate obey a command."""
        self.order(role, command, *arguments)
        self.restart(role)

    def finish(self, role: int) -> None:
        """Wait until a thread is back at its gate. Raises StuckError."""
        stop = self.await_stop_of(role)
        if stop.kind != GATE:
            raise StuckError(role)

    def await_stop_of(self, role: int) -> Stop:
        """Wait until a thread has stopped. Raises StuckError where it does not: it spins, or it sleeps.

        One that has not been running, because the machine is busy, is given more time. Raises StarvedError after that.
        """
        before = self._run_time(role)
        end = time.monotonic() + STARVED_LIMIT
        stop = self.wait(role, COMMAND_LIMIT)
        while stop is None:
            if not self._is_waiting(role) or self._run_time(role) - before >= SPIN_LIMIT:
                raise StuckError(role)
            if time.monotonic() > end:
                raise StarvedError
            stop = self.wait(role, NAP)
        return stop

    def _directory(self, role: int) -> Path:
        return Path(f"/proc/{self.pid}/task/{self.threads[role].tid}")

    def _run_time(self, role: int) -> float:
        """Return how many seconds a thread has been running (kernel Documentation/scheduler/sched-stats.rst)."""
        try:
            fields = (self._directory(role) / "schedstat").read_text().split()
        except OSError:
            return 0.0
        return int(fields[0]) / 1e9 if fields else 0.0

    def preemptions(self, role: int) -> int:
        """Return how often a thread lost its CPU to others so far; a stop for its tracer is not counted."""
        return int(status_field(self._directory(role), "nonvoluntary_ctxt_switches") or 0)

    def cpu(self, role: int) -> int:
        """Return the CPU that a thread was on last (proc_pid_stat(5), field 39)."""
        fields = stat_fields(self._directory(role))
        return int(fields[39 - 3]) if fields else -1

    def _is_waiting(self, role: int) -> bool:
        """Or for this program to see its stop."""
        state = stat_fields(self._directory(role))[:1]
        return state in (["R"], ["t"], ["D"])

    def do(self, role: int, command: int, *arguments: int) -> list[int]:
        """Let a thread obey a command, and return the values that it gave."""
        self.begin(role, command, *arguments)
        self.finish(role)
        return self.values(role)

    def wait(self, role: int, seconds: float) -> Stop | None:
        """Wait until a thread has stopped. Raises CrashedError where any of them gets a signal that kills."""
        end = time.monotonic() + seconds
        while not self.stop_of(role):
            left = end - time.monotonic()
            self.poll(max(0.0, min(left, NAP)))
            if left <= 0 and not self.found:
                break
        return self.stop_of(role)

    def poll(self, seconds: float = 0) -> None:
        """Look for the next stop of any thread."""
        found = ffi.new("struct rsm_stop *")
        error = lib.rsm_trace_await(self.pid, int(seconds * 1_000_000), found)
        if error or found.ended:
            raise CrashedError(int(found.signal) or (0 if error else int(signal.SIGKILL)), 0)
        self.found = bool(found.tid)
        if self.found:
            self._note(found)

    def _note(self, found: Any) -> None:
        number, address = int(found.signal), int(found.program_counter)
        tracee = self.tasks.setdefault(int(found.tid), Tracee(int(found.tid)))
        if found.at_gate:
            self.threads.setdefault(int(found.role), tracee)
            tracee.note(Stop(GATE, address=address))
        elif found.event:
            self._note_event(tracee, int(found.event), address)
        elif number == signal.SIGTRAP and found.stepped:
            tracee.note(Stop(STEP, address=address))
        elif number == signal.SIGTRAP and address - 1 in self.traps:
            tracee.note(Stop(TRAP, address=address - 1))
        elif number == INTERRUPTION:
            tracee.note(Stop(SIGNAL_DELIVERY, number, address=address))
        elif number in (signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH):
            tracee.restart()
        else:
            raise CrashedError(number, address)

    def _note_event(self, tracee: Tracee, event: int, address: int) -> None:
        """A new thread, an exec; or the stop that halt() asked for, which may come too late, behind another."""
        halting = self.threads.get(self.halting)
        if tracee is halting and not tracee.stop:
            tracee.note(Stop(EVENT, event=event, address=address))
        else:
            tracee.restart()

    def halt(self, role: int) -> Stop:
        """Stop a running thread where it is. Raises StuckError."""
        self.halting = role
        self.threads[role].interrupt()
        try:
            return self.await_stop_of(role)
        finally:
            self.halting = -1

    def interrupt(self, role: int) -> None:
        """Send a thread the signal whose handler is the role HANDLER."""
        lib.rsm_trace_signal(self.pid, self.threads[role].tid, INTERRUPTION)

    def _address(self, role: int) -> int:
        stop = self.stop_of(role)
        assert stop
        return stop.address

    def leave_trap(self, role: int) -> None:
        """Make a thread that is stopped behind a breakpoint continue with the instruction that was there."""
        address = self._address(role)
        self.restore(address)
        self.threads[role].move(address)

    def step_over_trap(self, role: int) -> None:
        """Execute the instruction that a breakpoint stands for, and leave the breakpoint."""
        address = self._address(role)
        planted = address in self.patches
        self.leave_trap(role)
        self.threads[role].step()
        self.await_stop_of(role)
        if planted:
            self.patch(address, BREAKPOINT)

    def walk(self, role: int, armed: bool, stops: Sequence[int], limit: int = STEP_BUFFER) -> WalkedOperation:
        """Single-step a stopped thread until something happens (enum rsm_walk_end)."""
        area = self.areas.get(role) if armed else None
        addresses, found = ffi.new("uint64_t[]", limit), ffi.new("struct rsm_stop *")
        count, end = ffi.new("unsigned int *"), ffi.new("unsigned int *")
        watched = area.address + RSEQ_CS if area else 0
        address, thread = self._address(role), self.threads[role]
        thread.stop = None
        listed = ffi.new("uint64_t[]", list(stops))
        error = lib.rsm_trace_walk(thread.tid, watched, listed, len(stops), addresses, limit, count, end, found)
        walked = [int(step) for step in addresses[0 : count[0]]]
        if error:
            raise CrashedError(0, walked[-1] if walked else address)
        if end[0] == lib.RSM_WALK_SLEEPS:
            stop = self.await_stop_of(role)
            walked.append(stop.address)
            if stop.kind != STEP or len(walked) >= limit:
                return WalkedOperation(walked, int(lib.RSM_WALK_STOPPED))
            rest = self.walk(role, armed, stops, limit - len(walked))
            return WalkedOperation(walked + rest.addresses, rest.end)
        if end[0] == lib.RSM_WALK_STOPPED:
            if found.ended:
                raise CrashedError(int(found.signal), walked[-1] if walked else address)
            self._note(found)
        else:
            thread.note(Stop(STEP, address=walked[-1]))
        return WalkedOperation(walked, int(end[0]))

    # --- registrations

    def look(self, role: int) -> None:
        """Ask the kernel for a stopped thread's area."""
        area, _ = self.threads[role].registration()
        self.areas.pop(role, None)
        if area:
            self.areas[role] = area

    # --- its end

    def end(self) -> None:
        """Kill it, and wait for all of its threads."""
        with undisturbed():
            self.kill()
        if self.memory:
            self.memory.close()


def choose_cpus() -> tuple[int, ...]:
    """Return the CPUs that are used: the operator's and, if there is another, that one."""
    return tuple(sorted(os.sched_getaffinity(0)))[:2]


@contextmanager
def beside(cpu: int) -> Iterator[None]:
    """Keep this program off a CPU, if there is another: whoever wakes up there interrupts the operator."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, allowed - {cpu} or allowed)
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _start(driven: DrivenProcess, subject: Subject, program: Path, memory: int, output: IO[bytes]) -> None:
    """Start the program under ptrace. What the dynamic linker binds later would be single-stepped, so it does now."""
    environment = {**subject.environment(), "LD_BIND_NOW": "1"}
    arguments = [str(program), str(memory)]
    try:
        driven.start(str(program), arguments, environment, output.fileno())
    except InputError as error:
        raise MissingError(str(error)) from error
    driven.memory = ProcessMemory(driven.pid, driven.pid)


def _reach_gates(driven: DrivenProcess, subject: Subject, output: IO[bytes]) -> None:
    end = time.monotonic() + START_LIMIT
    try:
        while not all(map(driven.stop_of, THREADS)):
            driven.poll(NAP)
            if time.monotonic() > end:
                raise StartError("hang", f"{PRELOADS} does not come to its main() in {START_LIMIT:.0f} seconds")
        _settle(driven, subject)
    except StuckError as error:
        raise StartError("hang", f"{PRELOADS} does not come to the end of its first operation") from error
    except CrashedError as error:
        output.seek(0)
        said = output.read(4096).decode("utf-8", "replace").strip().splitlines()
        detail = said[0][:200] if said else str(error)
        raise StartError("crash", f"{PRELOADS} ends before or at its first operation: {detail}") from error


def _settle(driven: DrivenProcess, subject: Subject) -> None:
    """Bind the threads, and see to it that those with a registration have one and the others have none."""
    home, other = driven.cpus[0], driven.cpus[-1]
    for role in THREADS:
        driven.pin(role, home if role in (OPERATOR, UNREGISTERED_OPERATOR) else other)
        driven.do(role, lib.RSM_DO_ADD, 0)  # some libraries register at their first use
        driven.look(role)
        if role in (OPERATOR, HELPER):
            if role not in driven.areas and "rsm_subject_register" in subject.exports:
                driven.do(role, lib.RSM_DO_REGISTER)
                driven.look(role)
        elif area := driven.areas.get(role):
            driven.do(role, lib.RSM_DO_UNREGISTER, area.address, area.size, area.signature)
            driven.do(role, lib.RSM_DO_ADD, 0)
            driven.look(role)


@contextmanager
def started(subject: Subject, program: Path, cpus: tuple[int, ...]) -> Iterator[DrivenProcess]:
    """Start the program with a subject, all threads at their gates, and end it.

    Raises MissingError where tracing is not allowed, StartError where the subject lets no process get there.
    """
    with ExitStack() as stack:
        descriptor = os.memfd_create("rseq-matrix", 0)
        stack.callback(os.close, descriptor)
        os.ftruncate(descriptor, ffi.sizeof("struct rsm_mailbox"))
        memory = stack.enter_context(mmap.mmap(descriptor, ffi.sizeof("struct rsm_mailbox")))
        boxes = stack.enter_context(ffi.from_buffer("struct rsm_mailbox[]", memory))
        output = stack.enter_context(tempfile.TemporaryFile())
        driven = DrivenProcess(boxes, cpus)
        stack.callback(driven.end)
        _start(driven, subject, program, descriptor, output)
        _reach_gates(driven, subject, output)
        yield driven
