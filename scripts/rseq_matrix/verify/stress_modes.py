"""What a run of the program `stress` printed, and what that says of one mode."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any

from rseq_matrix.documents.verify_phases import CountedMode, StressCounter, StressMeasured, StressMode
from rseq_matrix.verify import supervised

PHASE = "stress"
DEFAULT, TUNABLE_OFF, HALF_REGISTERED = "default", "tunable-off", "half-registered"
MODES = (DEFAULT, TUNABLE_OFF, HALF_REGISTERED)
HALF_NEEDS = "rsm_subject_register"
PROMISES = {
    "signals": "no signal was delivered",
    "migrations": "no thread was moved to another CPU",
    "vfork_children": "there was no vfork child",
    "fork_children": "there was no fork child",
    "short_lived_threads": "no short-lived thread was created",
    "key_destructors": "no key destructor ran",
}
"""What every run does; if not, the run shows nothing, and the reason is not the subject's."""


@dataclass(frozen=True)
class StressReport(StressMeasured):
    """All that the program printed."""

    counters: tuple[tuple[int, ...], ...]
    """Of each counter: what was attempted, and the subject's sum."""
    status: int
    """Exit status of the work."""
    enroll_error: int
    """errno(3) of a registration by the subject that failed; 0: none did."""

    @property
    def operations(self) -> int:
        """Return how much was done."""
        return self.adds + self.pushes + self.pops + self.empty + self.own_attempted


@dataclass(frozen=True)
class Mode:
    """One run of the program."""

    name: str
    report: StressReport | None = None
    ending: str = ""
    """How the program ended, if it printed nothing."""
    killed: bool = False
    """Whether that was a crash or a hang; else the program could not do its work."""
    unsupported: str = ""

    def count(self, name: str) -> int:
        """Return a number of the report; 0 where there is none."""
        return int(getattr(self.report, name)) if self.report else 0

    @property
    def finished(self) -> bool:
        """Return whether the sums were read when all was quiet."""
        return bool(self.report and self.report.finished)

    @property
    def hung(self) -> bool:
        """Return whether it had to be ended."""
        return self.report.hung if self.report else self.ending == supervised.STILL_RUNNING

    @property
    def counters(self) -> list[tuple[int, int, int]]:
        """Return the counters that were used: index, what was attempted, what the subject's sum is."""
        found = self.report.counters if self.report and self.finished else ()
        return [(index, want, got) for index, (want, got) in enumerate(found) if want or got]

    @property
    def operations(self) -> int:
        """Return how much was done."""
        return self.count("operations")

    @property
    def adds_lost(self) -> int:
        """Return how many adds are missing."""
        return sum(max(0, want - got) for _, want, got in self.counters) + self.count("own_lost")

    @property
    def adds_doubled(self) -> int:
        """Return how many adds are too many."""
        return sum(max(0, got - want) for _, want, got in self.counters) + self.count("own_doubled")

    @property
    def nodes_lost(self) -> int:
        """Return how many nodes are in no stack that should be in one."""
        return self.count("nodes_lost") if self.finished else 0

    @property
    def nodes_doubled(self) -> int:
        """Return how many pops returned a node that another thread held, or that was in no stack."""
        return self.count("nodes_doubled") + self.count("nodes_foreign")

    @property
    def incomplete(self) -> str:
        """Say what was not done that should have been; empty if all was."""
        if self.unsupported or not self.report:
            return "" if self.killed or self.unsupported else self.ending
        if self.report.crash or self.report.hung:
            return ""
        if not self.finished:
            return f"the work ended with exit status {self.report.status}"
        return "; ".join(self._missing())

    def _missing(self) -> Iterator[str]:
        for name, sentence in PROMISES.items():
            if not self.count(name):
                yield sentence + (": only one CPU is allowed here" if self.count("cpus") < 2 else "")
        if self.name == HALF_REGISTERED and not self.count("enrolled"):
            number = self.count("enroll_error")
            yield f"{HALF_NEEDS}() registered no thread ({errno.errorcode.get(number, number)}: {os.strerror(number)})"

    def document(self, untold: Collection[str]) -> StressMode | CountedMode:
        """Return it as the JSON document holds it; `untold` are the counts that the subject does not tell."""
        report = self.report
        if not report:
            return StressMode(self.name, self.unsupported, self.incomplete, self.ending)
        names = [one.name for one in fields(StressMeasured)]
        measured: dict[str, Any] = {name: None if name in untold else getattr(report, name) for name in names}
        return CountedMode(
            name=self.name,
            unsupported=self.unsupported,
            incomplete=self.incomplete,
            operations=self.operations,
            lost=self.adds_lost + self.nodes_lost,
            doubled=self.adds_doubled + self.nodes_doubled,
            **measured,
            counters=tuple(
                StressCounter(index, want, got, max(0, want - got), max(0, got - want))
                for index, want, got in self.counters
            ),
        )
