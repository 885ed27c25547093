"""What an operation that was interrupted or single-stepped says of the subject: two tables, read from top to bottom.

A row takes, of the cases that no row above it took, those for which its condition is true. Its result is the name of a
defect (documents/verify.py), or says that nothing is wrong, or that the case is not judged. An operation is right if
it took effect exactly once, and so did each that interrupted it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from rseq_matrix.documents.verify import DEFECTS
from rseq_matrix.model.results import ERROR, PASS
from rseq_matrix.verify.cases import SteppedCase, TrialCase, TrialGroup, effects
from rseq_matrix.verify.trials import InterruptionTrial

SET_ASIDE = "set aside"
"""Not judged and not counted: a defect that is reported elsewhere explains it."""
NOT_INTERRUPTED = "not interrupted"
"""It is not proven that the interruption happened, and nothing went wrong: it says nothing."""

MANY_ABORTS = 500
"""After which it does not matter whether the limit of steps was reached."""

Case = TypeVar("Case")


@dataclass(frozen=True)
class DecisionRow(Generic[Case]):
    """One row."""

    id: str
    result: str
    condition: Callable[[Case], bool]
    because: str
    """The sentence of a defect; a format of the words that the caller gives. Of another result, why it is that."""
    reference: str

    @property
    def is_defect(self) -> bool:
        """Return whether it names what is wrong with the subject."""
        return self.result in DEFECTS


CONTRACT = "csrc/subject.h"
ABORT = "Linux kernel/rseq.c, rseq_ip_fixup"
SECTION = "Linux include/uapi/linux/rseq.h, struct rseq_cs: post_commit_offset"
SIGNALS = "signal-safety(7)"

INTERRUPTED: Sequence[DecisionRow[TrialCase]] = (
    DecisionRow(
        "after-abort-of-broken-section",
        SET_ASIDE,
        lambda c: c.trial.point.after in c.group.broken,
        "a section that has a defect was aborted first, and that alone makes the effects wrong",
        ABORT,
    ),
    DecisionRow(
        "not-interrupted",
        NOT_INTERRUPTED,
        lambda c: c.trial.right and not c.trial.happened,
        "the operation ended before, or it is not proven that it was interrupted at this instruction",
        "verify/one_interruption.py",
    ),
    DecisionRow(
        "right",
        PASS,
        lambda c: c.trial.right,
        "the operation took effect exactly once, and so did each that interrupted it",
        CONTRACT,
    ),
    DecisionRow(
        "outside-explained",
        SET_ASIDE,
        lambda c: not c.inside and c.explained,
        "a section that has a defect was aborted by a timer tick or a preemption",
        ABORT,
    ),
    DecisionRow(
        "crashed",
        "crash",
        lambda c: bool(c.trial.crash),
        "{at}, the {operation} crashed: {crash}",
        CONTRACT,
    ),
    DecisionRow(
        "handler-waits",
        "not-reentrant",
        lambda c: c.trial.stuck and c.group.stuck_by_signals_alone,
        "{at}, the {operation} did not return within a second: the handler waits for the operation that it interrupted",
        SIGNALS,
    ),
    DecisionRow(
        "stuck",
        "hang",
        lambda c: c.trial.stuck,
        "{at}, the {operation} did not return within a second",
        CONTRACT,
    ),
    DecisionRow(
        "handler-interferes",
        "not-reentrant",
        lambda c: c.group.wrong_by_signals_alone,
        "{at}, {got}; expected is one effect of each",
        SIGNALS,
    ),
    DecisionRow(
        "aborted-and-given-up",
        "not-retried",
        lambda c: c.inside and effects(c.trial) == 0,
        "{at}, {got}: it is neither retried nor done by the fallback",
        ABORT,
    ),
    DecisionRow(
        "aborted-and-counted",
        "doubled-after-abort",
        lambda c: c.inside and effects(c.trial) > 1 and c.group.doubled_at_first,
        "{at}, {got}, although nothing was stored before: the abort and the retry both take effect",
        ABORT,
    ),
    DecisionRow(
        "stored-before-the-end",
        "early-commit",
        lambda c: c.inside and effects(c.trial) > 1,
        "{store} stores before the section's end: aborted after it, at {place}, by {kind}, {got}",
        SECTION,
    ),
    DecisionRow(
        "inside-explained",
        SET_ASIDE,
        lambda c: c.inside and c.explained,
        "the operation that interrupted was itself aborted in this section, by a timer tick or a preemption",
        ABORT,
    ),
    DecisionRow(
        "others-lost-in-a-section",
        "lost",
        lambda c: c.inside and c.group.lost_by_others,
        "{at}, {got}; expected is one",
        CONTRACT,
    ),
    DecisionRow(
        "fallback-loses",
        "fallback-not-atomic",
        lambda c: c.loses and c.group.has_sections,
        "{at}, {got}; expected is one effect of each",
        CONTRACT,
    ),
    DecisionRow(
        "subject-without-sections-loses",
        "not-atomic",
        lambda c: c.loses,
        "{at}, {got}; expected is one effect of each",
        CONTRACT,
    ),
    DecisionRow(
        "others-doubled",
        "doubled",
        lambda _: True,
        "{at}, {got}; expected is one effect of each",
        CONTRACT,
    ),
)
"""Of operations that were interrupted: each row is asked of all trials of a group before the next one is."""


STEPPED: Sequence[DecisionRow[SteppedCase]] = (
    DecisionRow(
        "step-crashed",
        "crash",
        lambda c: bool(c.crash),
        "{operation} crashed: {crash}",
        CONTRACT,
    ),
    DecisionRow(
        "step-stuck-after-defect",
        SET_ASIDE,
        lambda c: c.stuck and c.known,
        "the defect that was found before explains that it does not return",
        CONTRACT,
    ),
    DecisionRow(
        "step-stuck",
        "hang",
        lambda c: c.stuck,
        "{operation} did not return",
        CONTRACT,
    ),
    DecisionRow(
        "step-unprotected",
        "unprotected-fast-path",
        lambda c: c.unprotected,
        "{section}: {operation} commits there in a thread that has no rseq area registered",
        ABORT,
    ),
    DecisionRow(
        "step-livelock",
        "livelock",
        lambda c: not c.ended and bool(c.aborts) and (c.limit_reached or c.aborts >= MANY_ABORTS),
        "{operation} did not return within {steps} single steps: {section}, was aborted {times} times and retried "
        "each time",
        ABORT,
    ),
    DecisionRow(
        "step-hang",
        "hang",
        lambda c: not c.ended and c.limit_reached,
        "{operation} did not return within {steps} single steps, in which no critical section was aborted",
        CONTRACT,
    ),
    DecisionRow(
        "step-out-of-time",
        ERROR,
        lambda c: not c.ended,
        "{operation} did not return within the {steps} single steps that gdb made in {seconds:.0f} seconds",
        "verify/debugger.py",
    ),
    DecisionRow(
        "step-right",
        PASS,
        lambda c: c.effects == 1,
        "the operation took effect exactly once",
        CONTRACT,
    ),
    DecisionRow(
        "step-aborted-and-given-up",
        "not-retried",
        lambda c: c.effects == 0 and bool(c.aborts),
        "{operation} took no effect after {aborts} aborts; expected is one",
        ABORT,
    ),
    DecisionRow(
        "step-lost",
        "lost",
        lambda c: c.effects == 0,
        "{operation} took no effect; expected is one",
        CONTRACT,
    ),
    DecisionRow(
        "step-aborted-and-counted",
        "doubled-after-abort",
        lambda c: bool(c.aborts),
        "{operation} took effect more than once after {aborts} aborts; expected is one effect",
        ABORT,
    ),
    DecisionRow(
        "step-doubled",
        "doubled",
        lambda _: True,
        "{operation} took effect more than once; expected is one effect",
        CONTRACT,
    ),
)
"""Of operations that were single-stepped."""


@dataclass(frozen=True)
class Decided:
    """What one row took of a group, in the order of addresses."""

    row: DecisionRow[TrialCase]
    trials: Sequence[InterruptionTrial]
    happened: int
    """Trials of the group that happened and were not set aside."""


def decide(group: TrialGroup, rows: Sequence[DecisionRow[TrialCase]] = INTERRUPTED) -> list[Decided]:
    """Go through the rows from top to bottom; return those that took trials. Raises LookupError if trials are left."""
    left = sorted(group.trials, key=lambda trial: trial.point.address)
    known = replace(group, left=left, happened=[trial for trial in left if trial.happened])
    found: list[Decided] = []
    for row in rows:
        taken = [trial for trial in known.left if row.condition(TrialCase(trial, known))]
        if not taken:
            continue
        known = replace(known, left=_without(known.left, taken))
        if row.result == SET_ASIDE:
            known = replace(known, happened=_without(known.happened, taken))
        if row.is_defect:
            known = replace(known, names=known.names | {row.result})
        found.append(Decided(row, taken, len(known.happened)))
    if known.left:
        raise LookupError(f"no row takes {known.left[0]}")
    return found


def _without(trials: Sequence[InterruptionTrial], taken: Sequence[InterruptionTrial]) -> list[InterruptionTrial]:
    of_row = {id(trial) for trial in taken}
    return [trial for trial in trials if id(trial) not in of_row]


def decide_stepped(case: SteppedCase, rows: Sequence[DecisionRow[SteppedCase]] = STEPPED) -> DecisionRow[SteppedCase]:
    """Return the first row whose condition is true. Raises LookupError if there is none."""
    for row in rows:
        if row.condition(case):
            return row
    raise LookupError(f"no row takes {case}")
