"""The judgement on the trials of one place, in sentences: a defect for each row of the table that took trials."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rseq_matrix.documents.verify import Defect
from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.cases import TrialGroup, effects
from rseq_matrix.verify.decision_table import INTERRUPTED, Decided, decide
from rseq_matrix.verify.driven import HANDLER, UNREGISTERED_OPERATOR
from rseq_matrix.verify.naming import Instructions, kind_in_words, section_name, stores
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.trials import InterruptionTrial

PHASE = "interruptions"
POPPED = {
    0: "the interrupted pop gave a node that is still in a stack, or that another pop gave, too",
    2: "a node was taken out that no pop gave",
}
TIMES = {0: "no effect", 1: "effect once", 2: "effect twice"}


def _got(trial: InterruptionTrial) -> str:
    """Return what a trial with wrong effects showed."""
    operation = trial.point.operation
    if trial.effect is None:
        return ""
    if trial.effect.operator != 1:
        if operation == "pop":
            return POPPED[trial.effect.operator]
        return f"the interrupted {operation} took {TIMES.get(trial.effect.operator, 'effect more than twice')}"
    role, times = next(((r, t) for r, t in trial.effect.others.items() if t != 1), (0, 1))
    other = "the signal handler's" if role == HANDLER else "another thread's"
    thread = "an unregistered thread's" if trial.point.operator == UNREGISTERED_OPERATOR else "a registered thread's"
    return f"{other} {operation}, in the middle of {thread}, took {TIMES.get(times, 'effect more than twice')}"


def _last_store(instructions: Instructions, section: Section | None, decided: Decided) -> str:
    """Return the last instruction that stores before the first one at which the effect was doubled."""
    first = min((trial.point.address for trial in decided.trials if effects(trial) > 1), default=0)
    before = [i for i in (section.code if section else ()) if i.address < first and stores(i)]
    return instructions.name(before[-1].address) if before else "it"


def _defect(subject: Subject, group: TrialGroup, where: str, decided: Decided) -> Defect:
    instructions, trial = Instructions(subject), decided.trials[0]
    place, kind = instructions.name(trial.point.address), kind_in_words(trial.kind)
    sentence = decided.row.because.format(
        at=f"{place}: interrupted there by {kind}",
        place=place,
        kind=kind,
        operation=trial.point.operation,
        crash=trial.crash,
        got=_got(trial),
        store=_last_store(instructions, group.section, decided),
    )
    count = f" ({len(decided.trials)} of {decided.happened} trials)"
    return Defect(decided.row.result, PHASE, f"{where}, {place}", sentence + count)


def _judged(subject: Subject, group: TrialGroup, where: str) -> list[Defect]:
    return [_defect(subject, group, where, one) for one in decide(group, INTERRUPTED) if one.row.is_defect]


def judge_section(
    subject: Subject, section: Section, trials: Sequence[InterruptionTrial], broken: Collection[Section]
) -> list[Defect]:
    """Return what the trials inside of one section say; `broken` are the sections that have a defect."""
    return _judged(subject, TrialGroup(trials, section, True, broken), section_name(section))


def judge_outside(
    subject: Subject,
    operation: str,
    trials: Sequence[InterruptionTrial],
    broken: Collection[Section],
    names: Collection[str],
) -> list[Defect]:
    """Return what the trials outside of sections say, of one operation; `names` are the defects found so far."""
    group = TrialGroup(trials, None, bool(subject.sections), broken, frozenset(names))
    return _judged(subject, group, f"{operation}, outside of critical sections")
