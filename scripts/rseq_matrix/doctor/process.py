"""A running process: whose area each of its threads has, whether it is alive, and what is ahead of it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rseq_matrix.doctor.seccomp import seccomp_filters, strictness
from rseq_matrix.doctor.thread import examined_libc, examined_thread, layout_of, names_of, stores_seen
from rseq_matrix.documents.doctor import GLIBC, NONE, PROCESS, Examined, ExaminedProcess, ExaminedThread, SeccompFilters
from rseq_matrix.errors import InputError
from rseq_matrix.layout.blocks import Layout
from rseq_matrix.layout.picture import check_machine
from rseq_matrix.ptrace.follow import Tracees
from rseq_matrix.ptrace.memory import ProcessMemory
from rseq_matrix.ptrace.seize import seized
from rseq_matrix.ptrace.tasks import stat_fields
from rseq_matrix.ptrace.tracee import TaskState
from rseq_matrix.ptrace.watch import Watch
from rseq_matrix.signals import undisturbed

WATCHED_THREADS = 32
WATCH_TIME = 0.08  # seconds in which the threads run on, watched
FOLLOW_TIME = 0.005
STOPPED = frozenset("Tt")


def tunables_of(pid: int) -> str | None:
    """Return GLIBC_TUNABLES of a process, as it was started; None if it had none or may not be read."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    values = [word.partition(b"=")[2] for word in words if word.startswith(b"GLIBC_TUNABLES=")]
    return values[0].decode("utf-8", "replace") if values else None


def _serve(tracees: Tracees, watch: Watch, seconds: float) -> None:
    """For a while, note the stores of threads that run, and deliver their signals."""
    for tracee in tracees.stops(seconds):
        watch.note(tracee)
        tracee.restart()


def _stop_again(tracees: Tracees, watch: Watch) -> None:
    """Stop the threads that run. The SIGTRAP of a store is no signal of theirs."""
    for tracee in tracees.running:
        if tracees.stop(tracee):
            watch.note(tracee)
        else:
            del tracees.tasks[tracee.tid]


def _watch(tracees: Tracees, threads: Sequence[ExaminedThread], watch: Watch) -> None:
    """Let the process run for a while and catch what stores into the ids."""
    stopped = {tracee.tid: tracee for tracee in tracees.stopped}
    areas = [(stopped[t.tid], t.address) for t in threads if t.tid in stopped and t.address]
    try:
        for tracee, area in areas[:WATCHED_THREADS]:
            watch.begin(tracee, area)
        if areas and not watch.error:
            for tracee in stopped.values():
                tracee.restart()
            _serve(tracees, watch, WATCH_TIME)
    finally:
        with undisturbed():  # a register that is left behind would kill the process at its next store
            _stop_again(tracees, watch)
            for tracee, _ in areas:
                tracee.watch(0)


def _follows(tracees: Tracees, memory: ProcessMemory, tid: int, area: int) -> bool | None:
    """Move a thread to two CPUs in turn and see whether cpu_id goes with it; None where it has only one CPU."""
    allowed = os.sched_getaffinity(tid)
    if len(allowed) < 2:
        return None
    answers = []
    try:
        for cpu in sorted(allowed)[:2]:
            os.sched_setaffinity(tid, {cpu})
            if tid in tracees.tasks:
                tracees.tasks[tid].restart()
            time.sleep(FOLLOW_TIME)
            _stop_again(tracees, Watch())
            answers.append(tid in tracees.tasks and memory.word(area + 4, "i") == cpu)
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(tid, allowed)
    return all(answers)


def _second_look(tracees: Tracees, layout: Layout, thread: ExaminedThread, task: TaskState) -> ExaminedThread:
    """Look again at a thread that glibc has not registered: one that was only just starting has its area by then.

    Where libc believes what the kernel does not confirm, try whether cpu_id is alive.
    """
    said, tid = layout.libc.rseq, task.tid
    if not said or thread.owner == GLIBC or tid not in tracees.tasks:
        return thread
    follows = None
    if thread.believed:
        with contextlib.suppress(OSError, InputError):
            follows = _follows(tracees, layout.memory, tid, task.thread_pointer + said.offset)
    if tid in tracees.tasks:
        thread = examined_thread(layout, tracees.tasks[tid].read(), thread.name)
    return replace(thread, follows=follows)


def _seccomp(threads: Sequence[ExaminedThread]) -> SeccompFilters:
    """Return the strictest filters that a thread has: each can have its own (seccomp(2))."""
    found = [seccomp_filters(thread.tid or 0, thread.address or 0, thread.length) for thread in threads]
    worst = max(range(len(found)), key=lambda i: (strictness(found[i]), -i))
    alike = all((one.filters, one.rseq) == (found[0].filters, found[0].rseq) for one in found)
    return replace(found[worst], thread=None if alike else threads[worst].name)


def _lasting(tracees: Tracees, threads: Sequence[ExaminedThread]) -> list[ExaminedThread]:
    """Return the threads but those that had no area yet when they were looked at, and have ended since."""
    return [t for t in threads if t.owner != NONE or t.tid in tracees.tasks] or list(threads)


def look_at_process(pid: int) -> Examined:
    """Look at a running process. Its threads are stopped for some thousandths of a second, and run watched for 80.

    One that has no rseq may only just have been started: it is looked at twice.

    Raises InputError for a process that is gone, a zombie, the kernel's, 32-bit or not ours; MissingError where tracing
    is not allowed.
    """
    found = _look_once(pid)
    if found.libc and not found.libc.size and not any(thread.length for thread in found.threads):
        time.sleep(WATCH_TIME)
        found = _look_once(pid)
    return found


def _look_once(pid: int) -> Examined:
    stopped = (stat_fields(Path(f"/proc/{pid}")) or ["X"])[0] in STOPPED
    with seized(pid) as tracees:
        tids = sorted(tracees.tasks)
        memory = ProcessMemory(tracees.pid, tids[0])
        try:
            check_machine(memory)
            return _look(tracees, memory, tids, stopped)
        except OSError as error:
            raise InputError(f"process {tracees.pid} cannot be read: {error.strerror}") from error
        finally:
            memory.close()


def _look(tracees: Tracees, memory: ProcessMemory, tids: Sequence[int], stopped: bool) -> Examined:
    layout, watch = layout_of(memory), Watch()
    tasks = {tid: tracees.tasks[tid].read() for tid in tids}
    names = names_of(tids, tracees.pid)
    threads = [examined_thread(layout, tasks[tid], names[tid]) for tid in tids]
    seccomp = _seccomp(threads)
    if not stopped:  # one that a signal stopped goes on being stopped
        _watch(tracees, threads, watch)
        if not tracees.tasks and not watch.stores and not any(thread.lost_area for thread in threads):
            raise InputError(f"process {tracees.pid} ended while it was examined")
        threads = [
            _second_look(tracees, layout, thread, tasks[thread.tid or 0]) for thread in _lasting(tracees, threads)
        ]
    return Examined(
        kind=PROCESS,
        libc=examined_libc(layout),
        process=ExaminedProcess(tracees.pid, layout.objects[0].path or memory.program, tunables_of(tracees.pid)),
        seccomp=seccomp,
        threads=tuple(threads),
        writes=stores_seen(watch, memory, layout.objects),
        watched=not stopped and not watch.error and any(thread.address for thread in threads),
    )
