"""Whose rseq area a thread has, read while it stands still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rseq_matrix.layout.blocks import Layout, home_of, place
from rseq_matrix.layout.libc import read_libc
from rseq_matrix.ptrace.memory import Memory, UnreadableError
from rseq_matrix.ptrace.objects import loaded_objects
from rseq_matrix.ptrace.seize import Task

Document = dict[str, Any]

GLIBC, OTHER, NONE, UNKNOWN = "glibc", "other", "none", "unknown"


def empty_thread(name: str) -> Document:
    """Return a thread of which nothing is known yet."""
    return {
        "name": name,
        "tid": None,
        "owner": UNKNOWN,
        "object": None,
        "address": None,
        "length": None,
        "signature": None,
        "cpu_id": None,
        "cpu_id_start": None,
        "believed": None,
        "follows": None,
        "sched_getcpu_follows": None,
        "created": None,
    }


def layout_of(memory: Memory) -> Layout:
    """Return the loaded objects of a process and what its libc says. Raises InputError."""
    objects = loaded_objects(memory)
    return place(memory, read_libc(memory, objects), objects, None)


def _words(memory: Memory, address: int) -> tuple[int, int] | tuple[None, None]:
    """Return cpu_id_start and cpu_id of the area at an address; None where there is no memory."""
    try:
        start, cpu = memory.words(address, "Ii")
    except UnreadableError:
        return None, None
    return start, cpu


def _libc_area(layout: Layout, task: Task) -> int | None:
    """Return where libc has the thread's area; None where it does not say."""
    said = layout.libc.rseq
    return task.thread_pointer + said.offset if said and said.offset and task.thread_pointer else None


def _owner(layout: Layout, task: Task) -> tuple[str, str | None]:
    """Return whose the registered area is, and in whose memory it lies."""
    if task.unasked:
        return UNKNOWN, None
    if task.registration is None:
        return NONE, None
    home = home_of(layout, task.thread_pointer, task.registration.address)
    if layout.libc.rseq is None:
        return UNKNOWN, home  # a stripped static program does not say where its libc's area is
    mine = task.registration.address == _libc_area(layout, task)
    return (GLIBC, None) if mine else (OTHER, home)


def thread_document(layout: Layout, task: Task, name: str) -> Document:
    """Return what is known of a thread."""
    owner, home = _owner(layout, task)
    libc_area = _libc_area(layout, task)
    registration = task.registration
    area = registration.address if registration else libc_area
    start, cpu = _words(layout.memory, area) if area else (None, None)
    libc_cpu = _words(layout.memory, libc_area)[1] if libc_area else None
    said = layout.libc.rseq
    return {
        **empty_thread(name),
        "tid": task.tid,
        "owner": owner,
        "object": home,
        "address": area if registration else None,
        "length": registration.size if registration else None,
        "signature": registration.signature if registration else None,
        "cpu_id": cpu,
        "cpu_id_start": start,
        "believed": None if said is None else said.size > 0 and libc_cpu is not None and libc_cpu >= 0,
    }


def lost_area(thread: Document) -> bool:
    """Return whether the memory of the area that is registered for a thread is not there: unmapped since."""
    return bool(thread["address"]) and thread["cpu_id"] is None


def libc_document(layout: Layout) -> Document | None:
    """Return what libc says about rseq in this process; None where it says nothing."""
    said = layout.libc.rseq
    return {"size": said.size, "offset": said.offset, "flags": said.flags} if said else None


def names_of(tids: Sequence[int], pid: int) -> dict[int, str]:
    """Return what threads are called."""
    return {tid: "main" if tid == pid else f"thread {tid}" for tid in tids}
