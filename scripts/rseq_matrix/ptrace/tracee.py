"""A traced task and how it stopped. The words are ptrace(2)'s: a tracee is one task, never a whole process.

The primitive calls are in csrc/native_trace.c. All of them have to be made from the same thread of this program.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rseq_matrix._native import ffi, lib
from rseq_matrix.errors import InputError

ALL_KINDS = 0x40000000  # __WALL of waitid(2): threads, too
NEW_TASK_EVENTS = frozenset({1, 2, 3})  # PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_CLONE
EVENT_EXEC, EVENT_EXIT, EVENT_STOP = 4, 6, 128
STOPPING_SIGNALS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
SYSTEM_CALL_SIGNAL = signal.SIGTRAP | 0x80  # PTRACE_O_TRACESYSGOOD

SIGNAL_DELIVERY, GROUP, SYSTEM_CALL, EVENT = "signal-delivery-stop", "group-stop", "syscall-stop", "PTRACE_EVENT stop"

BRIEF = 200  # looks without sleeping: most stops come at once
PAUSE = 0.001  # seconds


@dataclass(frozen=True)
class RegisteredArea:
    """The rseq area that the kernel has registered for a thread: bytes, and an address in its process."""

    address: int
    size: int
    signature: int
    flags: int


@dataclass(frozen=True)
class TaskState:
    """What was read of a thread while it was stopped."""

    tid: int
    thread_pointer: int
    registration: RegisteredArea | None
    """None: nothing is registered, or `unasked` says why the kernel could not be asked."""
    unasked: str | None = None


@dataclass(frozen=True)
class Stop:
    """How a task stopped (ptrace(2), "Stopped states"): one of the four kinds above, or a kind that a user knows."""

    kind: str
    signal: int = 0
    """That it stopped with; in a signal-delivery-stop the one that is pending."""
    event: int = 0
    """PTRACE_EVENT_…, 0 for none."""
    address: int = 0
    """Of the instruction that comes next, where it was read."""

    @classmethod
    def of(cls, status: int) -> Stop:
        """Return the stop of a task that was seized, from si_status of waitid(2): the signal, and the event << 8."""
        number, event = status & 0xFF, status >> 8
        if event == EVENT_STOP and number in STOPPING_SIGNALS:
            return cls(GROUP, number, event)
        if event:
            return cls(EVENT, number, event)
        return cls(SYSTEM_CALL, number) if status == SYSTEM_CALL_SIGNAL else cls(SIGNAL_DELIVERY, number)


def pauses(seconds: float) -> Iterator[None]:
    """Yield until the time is up: first at once, then with short sleeps, in which Ctrl-C is heard."""
    end = time.monotonic() + seconds
    looks = 0
    while time.monotonic() < end:
        yield
        looks += 1
        time.sleep(0 if looks < BRIEF else PAUSE)


@dataclass(eq=False)
class Tracee:
    """A traced task. Where a call fails because the task was killed meanwhile, the next wait says so."""

    tid: int
    stop: Stop | None = None
    """None while it runs."""
    pending: int = 0
    """The signal that was about to be delivered when it stopped: it gets it when it is restarted or detached."""
    call: int = -1
    """The number of its last system call, where it stops at them."""
    ending: bool = False
    """It has come to its PTRACE_EVENT_EXIT stop."""

    def note(self, stop: Stop) -> None:
        """Remember how it stopped, and the signal that is pending by that."""
        self.stop = stop
        self.pending = stop.signal if stop.kind == SIGNAL_DELIVERY else 0
        self.ending = self.ending or stop.event == EVENT_EXIT

    def poll(self) -> bool:
        """Look whether it has stopped, and note that. Raises ChildProcessError where it has ended."""
        found = os.waitid(os.P_PID, self.tid, os.WSTOPPED | os.WNOHANG | ALL_KINDS)
        if found is not None:
            self.note(Stop.of(found.si_status))
        return found is not None

    def interrupt(self) -> None:
        """Ask for a stop; the loop sees it (PTRACE_INTERRUPT)."""
        lib.rsm_trace_interrupt(self.tid)

    def restart(self, to_system_call: bool = False) -> None:
        """Let it run on with the signal that is pending, to its next system call if wanted; a group-stop goes on."""
        stop, self.stop = self.stop, None
        number, self.pending = self.pending, 0
        if stop and stop.kind == GROUP:
            lib.rsm_trace_listen(self.tid)
        else:
            lib.rsm_trace_go_on(self.tid, number, int(to_system_call))

    def step(self) -> None:
        """Let it execute one instruction; the signal that is pending is dropped (PTRACE_SINGLESTEP)."""
        self.stop, self.pending = None, 0
        lib.rsm_trace_step(self.tid)

    def detach(self) -> int:
        """Detach it, with the signal that is pending. A group-stop goes on. Return errno, 0 where that worked."""
        return int(lib.rsm_trace_release(self.tid, self.pending))

    # --- registers and memory; it has to be stopped

    def _registers(self) -> tuple[int, int, int]:
        """Return the thread pointer, the program counter, and errno."""
        task = ffi.new("struct rsm_task *")
        error = int(lib.rsm_trace_registers(self.tid, task))
        return int(task.thread_pointer), int(task.program_counter), error

    @property
    def thread_pointer(self) -> int:
        """Return the thread pointer; 0 where it is not set or the task is gone."""
        return self._registers()[0]

    @property
    def program_counter(self) -> int:
        """Return the address of the instruction that comes next; 0 where the task is gone."""
        return self._registers()[1]

    @property
    def event_message(self) -> int | None:
        """Return what the last PTRACE_EVENT was about: a new task, or an exit status; None where the task is gone."""
        message = ffi.new("uint64_t *")
        return None if lib.rsm_trace_message(self.tid, message) else int(message[0])

    def move(self, address: int) -> None:
        """Make it continue elsewhere."""
        lib.rsm_trace_move(self.tid, address)

    def write(self, address: int, data: bytes) -> int:
        """Write memory, code too. Return errno."""
        return int(lib.rsm_trace_write(self.tid, address, data, len(data)))

    def watch(self, address: int) -> int:
        """Stop it behind its own stores to eight bytes (a debug register); 0: no more. Return errno."""
        return int(lib.rsm_trace_watch(self.tid, address))

    def has_stored(self) -> bool:
        """Return whether it is stopped behind a store to what is watched."""
        hit = ffi.new("int *")
        return bool(lib.rsm_trace_watch_hit(self.tid, hit) == 0 and hit[0])

    def registration(self) -> tuple[RegisteredArea | None, int]:
        """Return the area that the kernel has registered for it (PTRACE_GET_RSEQ_CONFIGURATION), and errno."""
        found = ffi.new("struct rsm_kernel_area *")
        error = int(lib.rsm_trace_registration(self.tid, found))
        known = not error and found.address
        return RegisteredArea(found.address, found.size, found.signature, found.flags) if known else None, error

    def read(self) -> TaskState:
        """Read its thread pointer and its registration. Raises InputError for 32-bit code, and where it is gone."""
        thread_pointer, _, error = self._registers()
        if error:
            what = "runs 32-bit code" if error == errno.EINVAL else "is gone"
            raise InputError(f"thread {self.tid} {what}; only 64-bit x86-64 threads can be looked at")
        area, error = self.registration()
        unasked = f"{errno.errorcode.get(error, error)} from PTRACE_GET_RSEQ_CONFIGURATION" if error else None
        return TaskState(self.tid, thread_pointer, area, unasked)
