"""Who stores into the ids of an rseq area: only the kernel may, and a debug register catches everybody else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rseq_matrix._native import ffi, lib
from rseq_matrix.ptrace.memory import Memory
from rseq_matrix.ptrace.objects import Object
from rseq_matrix.ptrace.seize import program_counter

Document = dict[str, Any]

MOST_WRITES = 64
"""Stores that are looked at; then the thread is let run unwatched."""


def stands_behind_store(tid: int) -> bool:
    """Return whether a stopped task stands behind a store to what is watched."""
    hit = ffi.new("int *")
    return bool(lib.rsm_trace_watch_hit(tid, hit) == 0 and hit[0])


def object_at(memory: Memory, objects: Sequence[Object], address: int) -> str:
    """Return the name of the object whose code lies at an address."""
    found = next((found.name for found in objects if found.holds(address)), None)
    home = None if found else memory.mapping_at(address)
    return found or (home.base_name if home and home.base_name else "code of no file")


@dataclass
class Watch:
    """The stores that were seen: the code behind them, and how many."""

    stores: dict[int, int] = field(default_factory=dict)
    error: int = 0

    def begin(self, tid: int, area: int) -> None:
        """Watch cpu_id_start and cpu_id of an area."""
        self.error = self.error or lib.rsm_trace_watch(tid, area)

    def note(self, tid: int) -> bool:
        """Note a store that a task stands behind. Return whether it does."""
        if not stands_behind_store(tid):
            return False
        at = program_counter(tid) - 1
        self.stores[at] = self.stores.get(at, 0) + 1
        if sum(self.stores.values()) >= MOST_WRITES:
            lib.rsm_trace_watch(tid, 0)
        return True

    def documents(self, memory: Memory, objects: Iterable[Object]) -> list[Document]:
        """Return what stores, by object."""
        listed = list(objects)
        found: dict[str, int] = {}
        for at, count in self.stores.items():
            name = object_at(memory, listed, at)
            found[name] = found.get(name, 0) + count
        return [{"object": name, "count": count} for name, count in found.items()]
