"""What the conditions of the decision table ask: facts of an operation that was interrupted or single-stepped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.driven import UNREGISTERED_HELPER, UNREGISTERED_OPERATOR
from rseq_matrix.verify.trials import SIGNAL, InterruptionTrial

DOUBLING = frozenset({"doubled-after-abort", "early-commit"})
"""Defects of a section with which an aborted operation takes effect more than once."""
LOSING = frozenset({"not-retried"})
"""Defects of a section with which an aborted operation takes no effect."""
UNREGISTERED = frozenset({UNREGISTERED_OPERATOR, UNREGISTERED_HELPER})


@dataclass(frozen=True)
class TrialGroup:
    """The trials that are judged together: those in one section, or those of one operation outside of sections."""

    trials: Sequence[InterruptionTrial]
    section: Section | None
    has_sections: bool
    """Whether the subject has critical sections."""
    broken: Collection[Section] = ()
    """Sections that have a defect; they were judged before this group."""
    names: frozenset[str] = frozenset()
    """Defects found so far: of sections that were judged before, and of this group by the rows above."""
    left: Sequence[InterruptionTrial] = ()
    """Taken by no row above, in the order of addresses."""
    happened: Sequence[InterruptionTrial] = ()
    """Of all that were not set aside by a row above, those whose interruption is proven to have happened."""

    @property
    def stuck_by_signals_alone(self) -> bool:
        """Return whether nothing but a signal made an operation hang."""
        return {trial.kind for trial in self.left if trial.stuck} == {SIGNAL}

    @property
    def wrong_by_signals_alone(self) -> bool:
        """Return whether nothing but a signal led to a wrong effect, where other kinds were tried."""
        return {t.kind for t in self.left} == {SIGNAL} and any(t.kind != SIGNAL for t in self.happened)

    @property
    def doubled_at_first(self) -> bool:
        """Return whether an interruption at the first instruction, where nothing has been stored, doubles."""
        first = min((trial.point.address for trial in self.happened), default=0)
        return any(effects(trial) > 1 and trial.point.address == first for trial in self.left)

    @property
    def lost_by_others(self) -> bool:
        """Return whether an operation that interrupted another took no effect."""
        return any(trial.effect and 0 in trial.effect.others.values() for trial in self.left)


@dataclass(frozen=True)
class TrialCase:
    """One trial, and what is known of those that are judged with it."""

    trial: InterruptionTrial
    group: TrialGroup

    @property
    def inside(self) -> bool:
        """Return whether a critical section was interrupted."""
        return self.group.section is not None

    @property
    def explained(self) -> bool:
        """Return whether defects of sections explain it."""
        return is_explained(self.trial, self.group.names)

    @property
    def loses(self) -> bool:
        """Return whether operations took no effect, and none took it more than once."""
        return self.trial.effect is not None and max(self.trial.effect.all) <= 1


def effects(trial: InterruptionTrial) -> int:
    """Return how often the operation that was interrupted took effect; once, where that is not known."""
    return trial.effect.operator if trial.effect else 1


def is_explained(trial: InterruptionTrial, names: Collection[str]) -> bool:
    """Return whether defects of sections, by name, explain a trial that had nothing to do with these sections.

    Sections are aborted by timer ticks and preemptions, too, that no trial brings about. A section with a defect then
    has its wrong effect in any thread that enters it, which are threads with a registration.
    """
    if trial.effect is None or trial.effect.right:
        return False
    by_role = {trial.point.operator: trial.effect.operator, **trial.effect.others}
    wrong = {role: times for role, times in by_role.items() if times != 1}
    if UNREGISTERED & set(wrong):
        return False
    return all((DOUBLING if times > 1 else LOSING) & set(names) for times in wrong.values())


@dataclass(frozen=True)
class SteppedCase:
    """One operation that was single-stepped by a tracer, which aborts every critical section that it enters."""

    crash: str = ""
    """The signal, and where."""
    stuck: bool = False
    """It did not come back after it had been restarted."""
    known: bool = False
    """A defect of the subject has been found in this phase before."""
    unprotected: bool = False
    """It went through a critical section to its end in a thread that has no rseq area registered."""
    ended: bool = True
    """Within the limits of steps and time."""
    limit_reached: bool = False
    """The limit of steps, which says more than one of time."""
    aborts: int = 0
    """Of critical sections."""
    effects: int = 1
    """How often it took effect; of 2 and more, 2."""
