"""What a phase has to say, and the part of it that phases share which collect what they find."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from rseq_matrix.documents.verify import Defect
from rseq_matrix.documents.verify_phases import PhaseFound


class Result(Protocol):
    """What a phase has to say."""

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Return what is wrong with the subject."""

    @property
    def unsupported(self) -> str:
        """Say why the phase does not exist for this subject or on this machine; empty if it does."""

    @property
    def problem(self) -> str:
        """Say why the phase could not do what it promises, for a reason that is not the subject's; empty if it did."""

    def counts(self) -> dict[str, int | None]:
        """Return what the phase adds to the totals (SubjectTotals); None for what the subject does not tell."""

    def document(self) -> PhaseFound:
        """Return it as the JSON document holds it; its "said" is a line for a person."""


@dataclass(kw_only=True)
class Found:
    """A result that grows while the phase goes on."""

    found: list[Defect] = field(default_factory=list)
    unsupported: str = ""
    problem: str = ""
    seconds: float = 0.0

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Return what is wrong with the subject."""
        return tuple(self.found)

    def counts(self) -> dict[str, int | None]:
        """Return what the phase adds to the totals of a subject: nothing."""
        return {}

    def note(self, name: str, phase: str, where: str, sentence: str) -> None:
        """Note a defect, the first of its name."""
        if not any(defect.name == name for defect in self.found):
            self.found.append(Defect(name, phase, where, sentence))
