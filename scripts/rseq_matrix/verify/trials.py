"""What a trial is: an operation, the instruction at which it is interrupted, the kind of interruption, the effects."""

from __future__ import annotations

from dataclasses import dataclass

from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.effects import Effect

SIGNAL, MIGRATION, PREEMPTION, MEMBARRIER, OTHER_CPU = "signal", "migration", "preemption", "membarrier", "other-cpu"
PREEMPTION_UNREGISTERED, MEMBARRIER_CPU = "preemption-unregistered", "membarrier-cpu"
INSIDE = (SIGNAL, MIGRATION, PREEMPTION, MEMBARRIER, MEMBARRIER_CPU)
OUTSIDE = (SIGNAL, MIGRATION, PREEMPTION, PREEMPTION_UNREGISTERED, OTHER_CPU)
FAMILY = {PREEMPTION_UNREGISTERED: PREEMPTION, MEMBARRIER_CPU: MEMBARRIER}
"""Kinds that reports count as another: the same interruption, brought about in a second way."""
TWO_CPUS = frozenset({MIGRATION, MEMBARRIER, MEMBARRIER_CPU, OTHER_CPU})


@dataclass(frozen=True)
class InterruptionPoint:
    """Where an operation is interrupted."""

    operation: str
    operator: int
    """The role: with a registration or without."""
    section: Section | None
    address: int
    """Of the instruction before which it happens; the file's."""
    after: Section | None = None
    """A section that is aborted first: the operation comes to the instruction only when it tries again."""


@dataclass(frozen=True)
class InterruptionTrial:
    """One interruption and its effects."""

    point: InterruptionPoint
    kind: str
    happened: bool
    """It is proven that the interruption happened there."""
    effect: Effect | None = None
    stuck: bool = False
    crash: str = ""

    @property
    def right(self) -> bool:
        """Return whether nothing is wrong with it."""
        return not self.stuck and not self.crash and (self.effect is None or self.effect.right)


class UnsupportedError(Exception):
    """A kind of interruption cannot be brought about here. The message says why."""
