"""Holding the tasks of a running process still, and letting them go, whatever happens in between."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix._native import ffi, lib
from rseq_matrix.errors import InputError, MissingError
from rseq_matrix.signals import undisturbed

ALL_KINDS = 0x40000000  # __WALL: threads, too
MAIN_THREAD_LIMIT = 0.2
STOP_LIMIT = 5.0  # seconds; a task that does not stop in that time sleeps in the kernel
KERNEL_THREAD = 0x00200000  # PF_KTHREAD, <linux/sched.h>
GONE = frozenset("ZXx")
BRIEF = 200  # looks without sleeping: most stops come at once
MOMENT = 0.001


@dataclass(frozen=True)
class Registration:
    """What the kernel has registered for a thread: bytes, addresses in the process."""

    address: int
    size: int
    signature: int
    flags: int


@dataclass(frozen=True)
class Task:
    """A thread that stands still."""

    tid: int
    thread_pointer: int
    registration: Registration | None
    """None: nothing is registered, or `unasked` says why the kernel could not be asked."""
    unasked: str | None = None


def stat_fields(directory: Path) -> list[str]:
    """Return the fields of /proc/…/stat from the third (state) on; [] where the task is gone (proc_pid_stat(5))."""
    try:
        line = (directory / "stat").read_text(errors="replace")
    except OSError:
        return []
    return line[line.rfind(")") + 1 :].split()


def status_field(directory: Path, name: str) -> str:
    """Return a line of /proc/…/status without its name, or ""."""
    try:
        lines = (directory / "status").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")


def living_tasks(pid: int) -> list[int]:
    """Return the threads of a process that still have memory: a main thread that ended first has none."""
    try:
        found = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    states = {tid: stat_fields(Path(f"/proc/{pid}/task/{tid}")) for tid in found}
    return sorted(tid for tid, fields in states.items() if fields and fields[0] not in GONE)


def pauses(seconds: float) -> Iterator[None]:
    """Yield until the time is up: first at once, then with short sleeps, in which Ctrl-C is heard."""
    end = time.monotonic() + seconds
    looks = 0
    while time.monotonic() < end:
        yield
        looks += 1
        time.sleep(0 if looks < BRIEF else MOMENT)


def next_stop(tid: int) -> int | None:
    """Return how a held task stopped (signal, and event << 8), None if it has not. Raises ChildProcessError if gone."""
    result = os.waitid(os.P_PID, tid, os.WSTOPPED | os.WNOHANG | ALL_KINDS)
    return None if result is None else result.si_status


def program_counter(tid: int) -> int:
    """Return where a stopped task stands; 0 where it is gone."""
    task = ffi.new("struct rsm_task *")
    return 0 if lib.rsm_trace_registers(tid, task) else int(task.program_counter)


@dataclass
class Held:
    """The tasks that are held: which of them stand still, and the signal that each is owed when it goes on."""

    pid: int
    owed: dict[int, int] = field(default_factory=dict)
    still: set[int] = field(default_factory=set)

    def wait_until_still(self, tid: int) -> bool:
        """Wait for a task that was told to stop. Return False if it ended. Raises InputError if it does neither."""
        for _ in pauses(STOP_LIMIT):
            try:
                stop = next_stop(tid)
            except ChildProcessError:
                return False
            if stop is not None:
                self.note_stop(tid, stop)
                return True
            if (stat_fields(Path(f"/proc/{self.pid}/task/{tid}")) or ["X"])[0] in GONE:
                return False
        raise InputError(f"thread {tid} of process {self.pid} does not stop: it sleeps in the kernel; try again later")

    def see_end(self, tid: int) -> None:
        """Wait for a held task that has ended: it stays a zombie, and keeps its process one, until its tracer did.

        A main thread is not waited for where others still run, nor where this program is its parent: the end of a
        process is its parent's to see (ptrace(2), "Death under ptrace").
        """
        fields = stat_fields(Path(f"/proc/{self.pid}"))
        if tid == self.pid and (not fields or int(fields[1]) == os.getpid()):
            return
        for _ in pauses(STOP_LIMIT if tid != self.pid else MAIN_THREAD_LIMIT):
            try:
                if os.waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG | ALL_KINDS):
                    return
            except ChildProcessError:
                return

    def note_stop(self, tid: int, stop: int) -> None:
        """Remember that a task stands still; a signal that it was about to get is owed to it."""
        self.still.add(tid)
        self.owed[tid] = 0 if stop >> 8 else stop

    def let_go(self) -> None:
        """Let every task go on as if nothing had been. A group stop (SIGSTOP) goes on being one."""
        for tid in list(self.owed):
            if tid not in self.still and not self._stops(tid):
                continue
            if lib.rsm_trace_release(tid, self.owed[tid]):
                self.see_end(tid)
        self.owed.clear()
        self.still.clear()

    def _stops(self, tid: int) -> bool:
        lib.rsm_trace_interrupt(tid)
        try:
            return self.wait_until_still(tid)
        except InputError:
            return False  # the kernel lets it go when this process ends

    def look(self, tid: int) -> Task:
        """Read a still task's registers and ask the kernel for its registration."""
        task = ffi.new("struct rsm_task *")
        if error := lib.rsm_trace_registers(tid, task):
            what = "runs 32-bit code" if error == errno.EINVAL else "is gone"
            raise InputError(f"thread {tid} of process {self.pid} {what}; only 64-bit x86-64 threads can be looked at")
        found = ffi.new("struct rsm_kernel_area *")
        error = lib.rsm_trace_registration(tid, found)
        known = not error and found.address
        registration = Registration(found.address, found.size, found.signature, found.flags) if known else None
        unasked = f"{errno.errorcode.get(error, error)} from PTRACE_GET_RSEQ_CONFIGURATION" if error else None
        return Task(tid, int(task.thread_pointer), registration, unasked)


def _check(pid: int) -> int:
    """Return the process that a number means (a thread's means its process); raise the sentence if it is none."""
    directory = Path(f"/proc/{pid}")
    fields = stat_fields(directory)
    if pid <= 0 or not fields:
        raise InputError(f"there is no process {pid}")
    pid = int(status_field(directory, "Tgid") or pid)
    if int(fields[6]) & KERNEL_THREAD:
        raise InputError(f"process {pid} is a thread of the kernel: it has no TLS and no rseq area")
    if not living_tasks(pid):
        raise InputError(f"process {pid} has ended (a zombie): it has no memory any more")
    if pid == os.getpid():
        raise InputError(f"process {pid} is this program itself; name another")
    return pid


def refused(why: str) -> MissingError:
    """Return what is said where one process may not trace another."""
    return MissingError(f"this kernel or container lets no process trace another ({why}); allow ptrace(2)")


def launch(path: str, argv: Sequence[str], environment: Mapping[str, str], output: int) -> tuple[int, int, str]:
    """Start a program under ptrace. Return its process id or, below 0, the stage (rsm_trace_start), and why."""
    arguments, kept = _strings(argv)
    variables, kept_too = _strings([f"{name}={value}" for name, value in environment.items()])
    error, stage = ffi.new("int *"), ffi.new("int *")
    pid = lib.rsm_trace_start(os.fsencode(path), arguments, variables, output, error, stage)
    del kept, kept_too  # alive until here
    return int(pid), int(stage[0]), os.strerror(error[0])


def _strings(values: Sequence[str]) -> tuple[object, list[object]]:
    kept: list[object] = [ffi.new("char[]", os.fsencode(value)) for value in values]
    return ffi.new("char *[]", [*kept, ffi.NULL]), kept


def may_trace() -> bool:
    """Return whether one process may trace even its own child here."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        return bool(lib.rsm_trace_hold(child) == 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, ALL_KINDS)


def _refusal(pid: int, tid: int, error: int) -> InputError | MissingError:
    """Return why a task cannot be held."""
    tracer = status_field(Path(f"/proc/{pid}/task/{tid}"), "TracerPid")
    owner = status_field(Path(f"/proc/{pid}"), "Uid").split()[:1]
    why = os.strerror(error)
    if tracer not in ("", "0"):
        return InputError(f"process {pid} is traced by process {tracer} already (a debugger?)")
    if not may_trace():
        return refused(why)
    if os.geteuid() != 0 and owner != [str(os.geteuid())]:
        return InputError(f"process {pid} belongs to user {''.join(owner)}; look at it as that user or as root")
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.is_file() and scope.read_text().strip() != "0":
        return MissingError(
            f"process {pid} may not be traced ({why}): kernel.yama.ptrace_scope is {scope.read_text().strip()}; "
            "do it as root, or let --layout start the program"
        )
    return InputError(f"process {pid} may not be traced: {why}")


def _hold(held: Held, tid: int) -> None:
    held.owed[tid] = 0  # before the call: an interruption behind it must not forget the task
    error = lib.rsm_trace_hold(tid)
    if not error:
        lib.rsm_trace_interrupt(tid)
        if held.wait_until_still(tid):
            return
        error = errno.ESRCH
        held.see_end(tid)
    del held.owed[tid]
    if error != errno.ESRCH and tid in living_tasks(held.pid):
        raise _refusal(held.pid, tid, error)


@contextmanager
def standing_still(pid: int) -> Iterator[Held]:
    """Hold all threads of a running process; let them go at the end.

    Raises InputError where it is gone, a zombie, of the kernel or not ours, MissingError where tracing is not allowed.
    """
    pid = _check(pid)
    held = Held(pid)
    try:
        while new := [tid for tid in living_tasks(pid) if tid not in held.owed]:
            for tid in new:
                _hold(held, tid)
        if not held.still:
            raise InputError(f"process {pid} ended while it was looked at")
        yield held
    finally:
        with undisturbed(), contextlib.suppress(ChildProcessError):
            held.let_go()
