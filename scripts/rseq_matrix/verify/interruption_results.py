"""What the phase "interruptions" tried and found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rseq_matrix.documents.verify_phases import (
    InterruptedOperation,
    InterruptedSection,
    InterruptionsFound,
    InterruptionTotals,
)
from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.result import Found


@dataclass
class SectionResult:
    """What was tried in one section."""

    section: Section
    operations: list[str] = field(default_factory=list)
    """That enter it; none: no interruption could be tried."""
    after: Section | None = None
    """The section whose abort leads to it; None: an operation enters it without an abort."""
    tried: Counter[str] = field(default_factory=Counter)
    """Instructions at which an interruption happened, by kind."""
    reached: set[int] = field(default_factory=set)
    """Instructions at which any kind of interruption happened."""
    not_reached: dict[str, list[int]] = field(default_factory=dict)
    """By kind, instructions that no operation came to, or at which no interruption of that kind could be proven."""

    def document(self) -> InterruptedSection:
        """Return it as the JSON document holds it."""
        return InterruptedSection(
            function=self.section.function,
            descriptor=self.section.descriptor,
            start=self.section.start,
            instructions=len(self.section.code),
            operations=tuple(self.operations),
            after_abort_of=self.after.start if self.after else None,
            tried=dict(self.tried),
            not_reached={kind: tuple(places) for kind, places in self.not_reached.items()},
        )


@dataclass
class OutsideResult:
    """What was tried in one operation outside of sections."""

    operation: str
    operator: int
    registered: bool
    after: Section | None
    """A section that is aborted first: what the operation does only then."""
    instructions: int
    """That it executes of the subject."""
    left_out: int
    """Of them, because there are so many."""
    tried: Counter[str] = field(default_factory=Counter)
    not_reached: int = 0

    def document(self) -> InterruptedOperation:
        """Return it as the JSON document holds it."""
        return InterruptedOperation(
            operation=self.operation,
            registered=self.registered,
            instructions=self.instructions,
            left_out=self.left_out,
            not_reached=self.not_reached,
            after_abort_of=self.after.start if self.after else None,
            tried=dict(self.tried),
        )


@dataclass
class Interruptions(Found):
    """The result of the phase."""

    cpus: tuple[int, ...]
    sections: list[SectionResult] = field(default_factory=list)
    outside: list[OutsideResult] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)
    """Kinds that could not be tried, and why."""
    given_up: list[str] = field(default_factory=list)
    """What was left out because too much had gone wrong."""
    repeats: int = 0
    """Trials that were made again, because the interruption came from elsewhere or not at all."""

    @property
    def totals(self) -> InterruptionTotals:
        """Return how much was tried."""
        entered = [result for result in self.sections if result.operations]
        return InterruptionTotals(
            sections=len(self.sections),
            sections_entered=len(entered),
            section_instructions=sum(len(result.section.code) for result in entered),
            kinds=len({kind for result in entered for kind in result.tried}),
            section_interruptions=sum(sum(result.tried.values()) for result in self.sections),
            not_reached=sum(len(places) for result in self.sections for places in result.not_reached.values()),
            outside_instructions=sum(result.instructions - result.left_out for result in self.outside),
            outside_interruptions=sum(sum(result.tried.values()) for result in self.outside),
        )

    def counts(self) -> dict[str, int | None]:
        """Return what the phase adds to the totals of a subject."""
        totals = self.totals
        return {"instructions": totals.section_instructions + totals.outside_instructions}

    def document(self) -> InterruptionsFound:
        """Return it as the JSON document holds it."""
        return InterruptionsFound(
            said=self._said(),
            cpus=self.cpus,
            totals=self.totals,
            sections=tuple(result.document() for result in self.sections),
            outside=tuple(result.document() for result in self.outside),
            without=dict(self.without),
            given_up=tuple(self.given_up),
            repeats=self.repeats,
            seconds=round(self.seconds, 3),
        )

    def _said(self) -> str:
        totals = self.totals
        outside, others = f"{totals.outside_interruptions:,}", f"{totals.outside_instructions:,}"
        if not totals.sections:
            return f"{outside} interruptions at {others} instructions; the subject has no critical sections"
        entered = f"{totals.section_instructions} instructions of {_counted(totals.sections_entered)}"
        inside = f"{totals.section_interruptions:,} interruptions at the {entered} ({totals.kinds} kinds)"
        left = totals.sections - totals.sections_entered
        unreached = f"; {_counted(left)} entered by no operation" if left else ""
        return f"{inside}, {outside} at {others} other instructions{unreached}"


def _counted(sections: int) -> str:
    return f"{sections} critical section{'s' * (sections != 1)}"
