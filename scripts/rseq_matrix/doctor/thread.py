"""The rseq area of a thread, read while it is stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rseq_matrix.documents.doctor import GLIBC, NONE, OTHER, UNKNOWN, ExaminedLibc, ExaminedThread, IdStores
from rseq_matrix.layout.blocks import Layout, home_of, place
from rseq_matrix.layout.libc import read_libc
from rseq_matrix.ptrace.memory import ProcessMemory, UnreadableError
from rseq_matrix.ptrace.objects import Object, loaded_objects
from rseq_matrix.ptrace.tracee import TaskState
from rseq_matrix.ptrace.watch import Watch


def layout_of(memory: ProcessMemory) -> Layout:
    """Return the loaded objects of a process and what its libc says. Raises InputError."""
    objects = loaded_objects(memory)
    return place(memory, read_libc(memory, objects), objects, None)


def _words(memory: ProcessMemory, address: int) -> tuple[int, int] | tuple[None, None]:
    """Return cpu_id_start and cpu_id of the area at an address; None where there is no memory."""
    try:
        start, cpu = memory.words(address, "Ii")
    except UnreadableError:
        return None, None
    return start, cpu


def _libc_area(layout: Layout, task: TaskState) -> int | None:
    """Return where libc has the thread's area; None where it does not say."""
    said = layout.libc.rseq
    return task.thread_pointer + said.offset if said and said.offset and task.thread_pointer else None


def _owner(layout: Layout, task: TaskState) -> tuple[str, str | None]:
    """Return whose the registered area is, and the object in whose memory it is."""
    if task.unasked:
        return UNKNOWN, None
    if task.registration is None:
        return NONE, None
    home = home_of(layout, task.thread_pointer, task.registration.address)
    if layout.libc.rseq is None:
        return UNKNOWN, home  # a stripped static program does not say where its libc's area is
    mine = task.registration.address == _libc_area(layout, task)
    return (GLIBC, None) if mine else (OTHER, home)


def examined_thread(layout: Layout, task: TaskState, name: str) -> ExaminedThread:
    """Return what is known of a thread."""
    owner, home = _owner(layout, task)
    libc_area = _libc_area(layout, task)
    registration = task.registration
    area = registration.address if registration else libc_area
    start, cpu = _words(layout.memory, area) if area else (None, None)
    libc_cpu = _words(layout.memory, libc_area)[1] if libc_area else None
    said = layout.libc.rseq
    return ExaminedThread(
        name=name,
        tid=task.tid,
        owner=owner,
        object=home,
        address=area if registration else None,
        length=registration.size if registration else None,
        signature=registration.signature if registration else None,
        cpu_id=cpu,
        cpu_id_start=start,
        believed=None if said is None else said.size > 0 and libc_cpu is not None and libc_cpu >= 0,
    )


def examined_libc(layout: Layout) -> ExaminedLibc | None:
    """Return what libc says about rseq in this process; None where it says nothing."""
    said = layout.libc.rseq
    return ExaminedLibc(size=said.size, offset=said.offset, flags=said.flags) if said else None


def stores_seen(watch: Watch, memory: ProcessMemory, objects: Iterable[Object]) -> tuple[IdStores, ...]:
    """Return which objects' code stored into the ids while a debug register watched them."""
    return tuple(IdStores(name, count) for name, count in watch.by_object(memory, objects).items())


def names_of(tids: Sequence[int], pid: int) -> dict[int, str]:
    """Return the names of threads."""
    return {tid: "main" if tid == pid else f"thread {tid}" for tid in tids}
