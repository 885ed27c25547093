"""Seizing the threads of a running process, and detaching them, whatever happens in between."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rseq_matrix._native import lib
from rseq_matrix.errors import InputError, MissingError
from rseq_matrix.ptrace.follow import Tracees
from rseq_matrix.ptrace.start import may_trace, refused
from rseq_matrix.ptrace.tasks import living_tasks, stat_fields, status_field
from rseq_matrix.ptrace.tracee import Tracee
from rseq_matrix.signals import undisturbed

KERNEL_THREAD = 0x00200000  # PF_KTHREAD, <linux/sched.h>


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


def _refusal(pid: int, tid: int, error: int) -> InputError | MissingError:
    """Return why a task cannot be seized."""
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


def _seize(tracees: Tracees, tid: int) -> None:
    """Seize and stop one thread; one that ends meanwhile is none."""
    tracee = tracees.tasks[tid] = Tracee(tid)  # before the call: an interruption behind it must not forget the task
    error = int(lib.rsm_trace_hold(tid))
    if not error:
        tracee.interrupt()
        if tracees.await_stop(tracee):
            return
        error = errno.ESRCH
        tracees.reap(tracee)
    del tracees.tasks[tid]
    if error != errno.ESRCH and tid in living_tasks(tracees.pid):
        raise _refusal(tracees.pid, tid, error)


@contextmanager
def seized(pid: int) -> Iterator[Tracees]:
    """Seize and stop all threads of a running process; detach them at the end.

    Raises InputError where it is gone, a zombie, of the kernel or not ours, MissingError where tracing is not allowed.
    """
    pid = _check(pid)
    tracees = Tracees(pid)
    try:
        while new := [tid for tid in living_tasks(pid) if tid not in tracees.tasks]:
            for tid in new:
                _seize(tracees, tid)
        if not tracees.tasks:
            raise InputError(f"process {pid} ended while it was looked at")
        yield tracees
    finally:
        with undisturbed(), contextlib.suppress(ChildProcessError):
            tracees.detach()
