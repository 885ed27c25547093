"""What operations took effect, and how often: each role adds or pushes what tells it from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from rseq_matrix._native import lib
from rseq_matrix.verify.driven import (
    HANDLER,
    HELPER,
    OPERATOR,
    UNREGISTERED_HELPER,
    UNREGISTERED_OPERATOR,
    DrivenProcess,
)

BITS = 16  # of the sum, for each role that adds
PLACE = {OPERATOR: 0, UNREGISTERED_OPERATOR: 0, HELPER: 1, UNREGISTERED_HELPER: 2, HANDLER: 3}
NODES = 4  # in the stacks before a pop
MODULUS = 1 << 64


@dataclass(frozen=True)
class Effect:
    """How often the operator's operation took effect, and those of the other roles that did one."""

    operator: int
    others: dict[int, int] = field(default_factory=dict)

    @property
    def all(self) -> tuple[int, ...]:
        """Return how often each took effect."""
        return self.operator, *self.others.values()

    @property
    def right(self) -> bool:
        """Return whether every operation took effect exactly once."""
        return set(self.all) == {1}


class Books:
    """Prepares an operation, and looks afterwards what took effect. All threads are at their gates at both times."""

    def __init__(self, driven: DrivenProcess, operation: str) -> None:
        self.driven = driven
        self.operation = operation
        self.before = 0
        self.filled: list[int] = []
        self.moved = False
        """An operation was done on the other CPU, which has a stack of its own."""

    def prepare(self, operator: int) -> None:
        """Bring about the state that the operation starts from. The stacks are empty now."""
        if self.operation == "pop":
            both = {operator, UNREGISTERED_OPERATOR}
            for role in both:
                self.driven.do(role, lib.RSM_DO_FILL, NODES)
            nodes = int(lib.RSM_NODES_MAX)
            self.filled = [role * nodes + nodes - number for role in both for number in range(NODES)]
        elif self.operation == "add":
            self.before = self.driven.do(OPERATOR, lib.RSM_DO_SUM)[0]
        self.driven.order(HANDLER, lib.RSM_DO_NOTHING)
        self.driven.mailbox.box[HANDLER].count = 0

    def command(self, role: int) -> tuple[int, int]:
        """Return the command for a role to do the operation. A role that interrupts a pop exchanges nodes."""
        if self.operation == "add":
            return int(lib.RSM_DO_ADD), 1 << BITS * PLACE[role]
        if self.operation == "push":
            return int(lib.RSM_DO_PUSH), 0
        own = role in (OPERATOR, UNREGISTERED_OPERATOR)
        return int(lib.RSM_DO_POP if own else lib.RSM_DO_EXCHANGE), 0

    def settle(self, operator: int, others: Iterable[int]) -> Effect:
        """Return what took effect, and leave the stacks empty."""
        if self.operation == "add":
            return self._added(others)
        return self._pushed(operator, others) if self.operation == "push" else self._popped(operator, others)

    def _added(self, others: Iterable[int]) -> Effect:
        more = (self.driven.do(OPERATOR, lib.RSM_DO_SUM)[0] - self.before) % MODULUS
        times = [more >> BITS * place & (1 << BITS) - 1 for place in range(4)]
        return Effect(times[0], {role: times[PLACE[role]] for role in others})

    def _pushed(self, operator: int, others: Iterable[int]) -> Effect:
        first = {role: role * int(lib.RSM_NODES_MAX) + 1 for role in (operator, *others)}
        found = self._drain(sorted(first.values()), [])
        return Effect(found[first[operator]], {role: found[first[role]] for role in others})

    def _popped(self, operator: int, others: Iterable[int]) -> Effect:
        """A pop that takes effect twice takes out a node that no pop returns; one without effect leaves its node."""
        popped = self.driven.values(operator)
        kept = popped + [value for role in others for value in self.driven.values(role)]
        found = self._drain(sorted(self.filled), kept)
        if any(found[value] == 0 for value in self.filled):
            return Effect(2)
        return Effect(1 if sum(found.values()) == len(self.filled) and popped else 0)

    def _drain(self, wanted: list[int], kept: list[int]) -> Counter[int]:
        """Pop everything."""
        driven = self.driven
        kept = kept + driven.do(OPERATOR, lib.RSM_DO_DRAIN)
        if len(driven.cpus) > 1 and (self.moved or sorted(kept) != wanted):
            driven.pin(OPERATOR, driven.cpus[1])
            kept += driven.do(OPERATOR, lib.RSM_DO_DRAIN)
            driven.pin(OPERATOR, driven.cpus[0])
        return Counter(kept)
