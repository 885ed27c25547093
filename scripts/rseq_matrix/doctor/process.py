"""A running process: whose area each of its threads has, whether it is alive, and what is ahead of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rseq_matrix._native import lib
from rseq_matrix.doctor.seccomp import seccomp_document, strictness
from rseq_matrix.doctor.thread import GLIBC, NONE, layout_of, libc_document, lost_area, names_of, thread_document
from rseq_matrix.errors import InputError
from rseq_matrix.layout.blocks import Layout
from rseq_matrix.layout.picture import check_machine
from rseq_matrix.ptrace.memory import Memory
from rseq_matrix.ptrace.seize import Held, Task, next_stop, pauses, standing_still, stat_fields
from rseq_matrix.ptrace.watch import Watch
from rseq_matrix.signals import undisturbed

Document = dict[str, Any]

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


def resume(held: Held, tids: Sequence[int]) -> None:
    """Let still threads run on, still held, with the signals that they are owed."""
    for tid in tids:
        held.still.discard(tid)
        lib.rsm_trace_go_on(tid, held.owed.get(tid, 0), 0)
        held.owed[tid] = 0


def _serve(held: Held, watch: Watch, seconds: float) -> None:
    """For a while, note the stores of threads that run, and hand on their signals."""
    for _ in pauses(seconds):
        for tid in [tid for tid in held.owed if tid not in held.still]:
            with contextlib.suppress(ChildProcessError):
                stop = next_stop(tid)
                if stop is not None:
                    ours = watch.note(tid) or stop >> 8
                    lib.rsm_trace_go_on(tid, 0 if ours else stop & 0x7F, 0)


def _stop_again(held: Held, watch: Watch) -> None:
    """Stop the threads that run. A store that one stands behind is no signal that it is owed."""
    for tid in [tid for tid in held.owed if tid not in held.still]:
        lib.rsm_trace_interrupt(tid)
        try:
            alive = held.wait_until_still(tid)
        except InputError:
            alive = False
        if not alive:
            held.owed.pop(tid, None)
        elif held.owed[tid] == signal.SIGTRAP and watch.note(tid):
            held.owed[tid] = 0


def _watch(held: Held, threads: Sequence[Document], watch: Watch) -> None:
    """Let the process run for a moment and catch who stores into the ids."""
    areas = {t["tid"]: t["address"] for t in threads if t["address"] and t["tid"] in held.still}
    try:
        for tid, area in list(areas.items())[:WATCHED_THREADS]:
            watch.begin(tid, area)
        if areas and not watch.error:
            resume(held, list(held.still))
            _serve(held, watch, WATCH_TIME)
    finally:
        with undisturbed():  # a register that is left behind would kill the process at its next store
            _stop_again(held, watch)
            for tid in areas:
                lib.rsm_trace_watch(tid, 0)


def _follows(held: Held, memory: Memory, tid: int, area: int) -> bool | None:
    """Move a thread to two CPUs in turn and see whether cpu_id goes with it; None where it has only one CPU."""
    allowed = os.sched_getaffinity(tid)
    if len(allowed) < 2:
        return None
    answers = []
    try:
        for cpu in sorted(allowed)[:2]:
            os.sched_setaffinity(tid, {cpu})
            resume(held, [tid])
            time.sleep(FOLLOW_TIME)
            _stop_again(held, Watch())
            answers.append(tid in held.still and memory.word(area + 4, "i") == cpu)
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(tid, allowed)
    return all(answers)


def _second_look(held: Held, layout: Layout, thread: Document, task: Task) -> Document:
    """Look again at a thread that glibc has not registered: one that was only just starting has its area by then.

    Where libc believes what the kernel does not confirm, try whether cpu_id is alive.
    """
    said, tid = layout.libc.rseq, thread["tid"]
    if not said or thread["owner"] == GLIBC or tid not in held.still:
        return thread
    follows = None
    if thread["believed"]:
        with contextlib.suppress(OSError, InputError):
            follows = _follows(held, layout.memory, tid, task.thread_pointer + said.offset)
    if tid in held.still:
        thread = thread_document(layout, held.look(tid), thread["name"])
    return {**thread, "follows": follows}


def _seccomp(threads: Sequence[Document]) -> Document:
    """Return the strictest filters that a thread has: each can have its own (seccomp(2))."""
    found = [seccomp_document(thread["tid"], thread["address"] or 0, thread["length"]) for thread in threads]
    worst = max(range(len(found)), key=lambda i: (strictness(found[i]), -i))
    alike = all((one["filters"], one["rseq"]) == (found[0]["filters"], found[0]["rseq"]) for one in found)
    return found[worst] | {"thread": None if alike else threads[worst]["name"]}


def _lasting(held: Held, threads: Sequence[Document]) -> list[Document]:
    """Return the threads but those that had no area yet when they were looked at, and have ended since."""
    return [t for t in threads if t["owner"] != NONE or t["tid"] in held.owed] or list(threads)


def look_at_process(pid: int) -> Document:
    """Look at a running process. Its threads stand still for some thousandths of a second, and run watched for 80.

    One that has no rseq may only just have been started: it is looked at twice.

    Raises InputError for a process that is gone, a zombie, the kernel's, 32-bit or not ours; MissingError where tracing
    is not allowed.
    """
    found = _look_once(pid)
    if found["libc"] and not found["libc"]["size"] and not any(thread["length"] for thread in found["threads"]):
        time.sleep(WATCH_TIME)
        found = _look_once(pid)
    return found


def _look_once(pid: int) -> Document:
    stopped = (stat_fields(Path(f"/proc/{pid}")) or ["X"])[0] in STOPPED
    with standing_still(pid) as held:
        tids = sorted(held.still)
        memory = Memory(held.pid, tids[0])
        try:
            check_machine(memory)
            return _look(held, memory, tids, stopped)
        except OSError as error:
            raise InputError(f"process {held.pid} cannot be read: {error.strerror}") from error
        finally:
            memory.close()


def _look(held: Held, memory: Memory, tids: Sequence[int], stopped: bool) -> Document:
    layout, watch = layout_of(memory), Watch()
    tasks = {tid: held.look(tid) for tid in tids}
    names = names_of(tids, held.pid)
    threads = [thread_document(layout, tasks[tid], names[tid]) for tid in tids]
    seccomp = _seccomp(threads)
    if not stopped:  # one that a signal stopped goes on being stopped
        _watch(held, threads, watch)
        if not held.owed and not watch.stores and not any(map(lost_area, threads)):
            raise InputError(f"process {held.pid} ended while it was looked at")
        threads = [_second_look(held, layout, thread, tasks[thread["tid"]]) for thread in _lasting(held, threads)]
    return {
        "process": {
            "pid": held.pid,
            "program": layout.objects[0].path or memory.program,
            "tunables": tunables_of(held.pid),
        },
        "libc": libc_document(layout),
        "threads": threads,
        "seccomp": seccomp,
        "writes": watch.documents(memory, layout.objects),
        "watched": not stopped and not watch.error and any(thread["address"] for thread in threads),
    }
