"""The judgement on what a subject did at one stage. It runs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from rseq_matrix.documents.stage_trial import StageTrial
from rseq_matrix.documents.verify import Defect
from rseq_matrix.documents.verify_phases import StageCell
from rseq_matrix.environments.catalogue import ENVIRONMENTS
from rseq_matrix.matrix.cells import Cell
from rseq_matrix.matrix.judgement import judge_ending, kernel_registered, observed_class, speaks_for_bad_end
from rseq_matrix.matrix.tracer import Run
from rseq_matrix.model.results import ERROR, FAIL, PASS
from rseq_matrix.model.stages import STAGES
from rseq_matrix.model.timeline import Ending
from rseq_matrix.verify.subject import Subject

PHASE = "stages"
MAY_LIBC = "libc"
TLS_TOUCHES = frozenset({"tls", "tls-get-addr"})
RELOCATED_TOUCHES = frozenset({"plt-call", "got-load"})
UNPROTECTED = {
    "blind": "no thread pointer is set",
    "unregistered": "no area is registered",
    "stale": "the area looks registered and is not",
}


@dataclass(frozen=True)
class Verdict:
    """What is said of one cell."""

    cell: Cell
    observed: str | None
    """The class."""
    trial: StageTrial | None
    result: str
    reason: str = ""
    defect: Defect | None = None

    def document(self) -> StageCell:
        """Return it as the JSON document holds it."""
        return StageCell(
            id=self.cell.id,
            stage=self.cell.stage,
            class_=self.observed,
            trial=self.trial,
            result=self.result,
            defect=self.defect.name if self.defect else None,
            reason=self.reason,
        )


def _crash(subject: Subject, cell: Cell, trial: StageTrial, observed: str | None, ending: str) -> Defect:
    """Name the cause of a call that did not return."""
    where = "before its own relocations are done" if trial.relocated is False else ""
    kinds = {touch.kind: touch for touch in subject.code.touches}
    early = trial.relocated is False or observed == "blind" or STAGES[cell.stage].may != MAY_LIBC
    name, because = "crash", ""
    for candidate, wanted in (("needs-tls", TLS_TOUCHES), ("needs-relocation", RELOCATED_TOUCHES)):
        touch = next((kinds[kind] for kind in kinds if kind in wanted), None)
        if early and touch:
            name = candidate
            because = f": it uses {touch.what or touch.kind} ({touch.instruction})"
            break
    if "still running" in ending:
        name, because = "hang", ""
    said = f"{trial.progress}() did not return, {ending or 'the process ended'}"
    return _defect(name, cell, ", ".join(filter(None, (said, where))) + because)


def _defect(name: str, cell: Cell, sentence: str) -> Defect:
    return Defect(name, PHASE, cell.id, f"{cell.stage}: {sentence}")


def _amount(cell: Cell, of: str, got: int, want: int) -> Defect | None:
    """Compare a sum with what was added."""
    if got == want:
        return None
    what = f"{abs(want - got)} of {want} adds {'lost' if got < want else 'too many'}"
    return _defect("lost" if got < want else "doubled", cell, f"{of}: the sum is {got}, expected {want}: {what}")


def _tls_too_early(subject: Subject, cell: Cell, trial: StageTrial) -> Defect | None:
    """Find an access to thread-local storage that was executed before the relocation that says where that is."""
    executed = [touch for bit, touch in enumerate(subject.watched) if trial.stepped_watched >> bit & 1]
    if trial.relocated is not False or not executed:
        return None
    touch = executed[0]
    sentence = f"`{touch.instruction}` used {touch.what} before the subject's own relocations were done"
    return _defect("needs-tls", cell, sentence)


def _place(subject: Subject, trial: StageTrial) -> str:
    """Name the section that was last entered, and the instruction."""
    if trial.stepped_section >= len(subject.sections):
        return "outside all critical sections"
    section = subject.sections[trial.stepped_section]
    code = next((insn for insn in section.code if insn.address == trial.stepped_at), None)
    text = f" `{code.text}`" if code else ""
    return f"section at {section.start:#x} of {section.function or 'its code'}, instruction {trial.stepped_at:#x}{text}"


def _protection(subject: Subject, cell: Cell, trial: StageTrial, observed: str | None) -> Defect | None:
    """Find a fast path where the kernel protects nothing: seen by the tracer, or said by the subject itself."""
    why = UNPROTECTED.get(observed or "", "the kernel has registered nothing")
    if trial.stepped_commits:
        at = _place(subject, trial)
        return _defect("unprotected-fast-path", cell, f"it committed in a critical section where {why} ({at})")
    if trial.fast:
        sentence = f"{trial.fast} of {trial.attempted} adds took the fast path where {why}"
        return _defect("unprotected-fast-path", cell, sentence)
    return None


def _not_loaded(cell: Cell, trial: StageTrial, run: Run) -> Defect:
    said = f": {run.complaints[:300]}" if run.complaints else ""
    if trial.copies:
        return _defect("not-loaded", cell, f"its functions are not found in the copy that is mapped{said}")
    return _defect("not-loaded", cell, f"it is not mapped in this process{said}")


def _blamed(run: Run, trial: StageTrial) -> bool:
    """Return whether the wrong sum that was seen here is a defect of the other stage itself."""
    other = run.trials.get(trial.wrong or "")
    return other is not None and other.committed - other.attempted == trial.got - trial.want


def _done(subject: Subject, cell: Cell, run: Run, protected: bool, observed: str | None) -> Defect | None:
    """Judge a trial that came to its end."""
    trial = run.trials[cell.stage]
    unprotected = None if protected else _protection(subject, cell, trial, observed)
    if early := unprotected or _tls_too_early(subject, cell, trial):
        return early
    if trial.stepped_limited:
        at = _place(subject, trial)
        sentence = f"an add did not end within {trial.stepped_most} single steps ({at})"
        return _defect("livelock", cell, sentence)
    own = _amount(cell, "its counter", trial.committed, trial.attempted)
    if own or not trial.wrong or _blamed(run, trial):
        return own
    return _amount(cell, f"the counter of {trial.wrong}, checked here", trial.got, trial.want)


def _ended(subject: Subject, cell: Cell, ending: Ending, run: Run) -> Verdict:
    """Judge a cell whose process the environment ends early: not by that, unless it ends in another way.

    What the subject did until then counts: at some stages it was called before the process ended.
    """
    result, reason = judge_ending(cell.stage, ending, run)
    record, trial = run.records.get(cell.stage), run.trials.get(cell.stage)
    done = trial if record and trial and trial.progress == "done" else None
    observed = observed_class(record) if record and done else None
    defect = _done(subject, cell, run, bool(kernel_registered(record)), observed) if record and done else None
    if result == FAIL and not defect:
        defect = _defect("crash", cell, reason.removeprefix(f"{cell.stage}: "))
    if defect:
        return Verdict(cell, observed, done, FAIL, defect.sentence, defect)
    return Verdict(cell, observed, done, result, reason)


def _defect_of(subject: Subject, cell: Cell, run: Run, trial: StageTrial) -> Defect | None:
    """Return what is wrong with what the subject did at a stage; None if nothing is. The probe has called it."""
    record = run.records.get(cell.stage)
    if record is None:
        said = "; ".join(filter(None, (run.misbehaved or "the process did not get there", run.complaints[:300])))
        return _defect("crash" if run.ending else "not-loaded", cell, f"this stage was not reached: {said}")
    if not trial.usable:
        return _not_loaded(cell, trial, run)
    if trial.progress != "done":
        return _crash(subject, cell, trial, observed_class(record), run.ending)
    defect = _done(subject, cell, run, bool(kernel_registered(record)), observed_class(record))
    if not defect and speaks_for_bad_end(run, cell.stage):
        defect = _defect("crash", cell, f"it was the last stage of its process: {run.misbehaved}")
    return defect


def judge(subject: Subject, cell: Cell, ending: Ending | None, run: Run | None, obstacle: str = "") -> Verdict:
    """Judge one cell by its run; None if there was none, for the reason in `obstacle`.

    ending: how the environment ends the process early, if it does.
    """
    if run is None:
        return Verdict(cell, None, None, ERROR, obstacle)
    if ending:
        return _ended(subject, cell, ending, run)
    record, trial = run.records.get(cell.stage), run.trials[cell.stage]
    observed = observed_class(record) if record else None
    if record and trial.progress == "not begun":
        return Verdict(cell, observed, trial, ERROR, f"the probe did not call the subject: {run.misbehaved}")
    defect = _defect_of(subject, cell, run, trial)
    if defect:
        return Verdict(cell, observed, trial, FAIL, defect.sentence, defect)
    want = trial.attempted if ENVIRONMENTS[cell.environment].stepped else 2
    if run.traced and trial.stepped != want:
        said = f"{trial.stepped} adds were single-stepped to their end, expected {want}"
        return Verdict(cell, observed, trial, ERROR, said)
    return Verdict(cell, observed, trial, PASS)
