"""What code stores into the ids of an rseq area: only the kernel may, and a debug register catches all else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rseq_matrix.ptrace.memory import ProcessMemory
from rseq_matrix.ptrace.objects import Object
from rseq_matrix.ptrace.tracee import Tracee

MOST_WRITES = 64
"""Stores that are looked at; then the thread is let run unwatched."""


def object_at(memory: ProcessMemory, objects: Sequence[Object], address: int) -> str:
    """Return the name of the object whose code lies at an address."""
    found = next((found.name for found in objects if found.holds(address)), None)
    home = None if found else memory.mapping_at(address)
    return found or (home.base_name if home and home.base_name else "code of no file")


@dataclass
class Watch:
    """The stores that were seen: the code behind them, and how many."""

    stores: dict[int, int] = field(default_factory=dict)
    error: int = 0

    def begin(self, tracee: Tracee, area: int) -> None:
        """Watch cpu_id_start and cpu_id of an area."""
        self.error = self.error or tracee.watch(area)

    def note(self, tracee: Tracee) -> bool:
        """Note a store that a task is stopped behind. Return whether it is; the SIGTRAP is not delivered then."""
        if not tracee.has_stored():
            return False
        at = tracee.program_counter - 1
        self.stores[at] = self.stores.get(at, 0) + 1
        if sum(self.stores.values()) >= MOST_WRITES:
            tracee.watch(0)
        tracee.pending = 0
        return True

    def by_object(self, memory: ProcessMemory, objects: Iterable[Object]) -> dict[str, int]:
        """Return how many stores each object's code has made."""
        listed = list(objects)
        found: dict[str, int] = {}
        for at, count in self.stores.items():
            name = object_at(memory, listed, at)
            found[name] = found.get(name, 0) + count
        return found
