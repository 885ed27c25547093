"""Progress under single-stepping, where every try of a critical section is aborted: each operation has to end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix.documents.verify import Defect
from rseq_matrix.documents.verify_phases import DebuggedOperation, SteppedOperation, SteppingFound
from rseq_matrix.verify.cases import SteppedCase
from rseq_matrix.verify.driven import (
    OPERATOR,
    UNREGISTERED_OPERATOR,
    CrashedError,
    StartError,
    StarvedError,
    StuckError,
    choose_cpus,
)
from rseq_matrix.verify.effects import Books
from rseq_matrix.verify.result import Found
from rseq_matrix.verify.step_judgement import judge_stepped, most_aborted
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.trial_process import TrialProcess
from rseq_matrix.verify.walking import STEP_LIMIT, Walker

PHASE = "stepping"


@dataclass(kw_only=True)
class Stepping(Found):
    """The result of the phase."""

    operations: list[SteppedOperation] = field(default_factory=list)

    def document(self) -> SteppingFound:
        """Return it as the JSON document holds it."""
        operations = tuple(self.operations)
        return SteppingFound(steps_said(operations), STEP_LIMIT, operations, round(self.seconds, 3))


def steps_said(operations: Sequence[SteppedOperation] | Sequence[DebuggedOperation]) -> str:
    """Return a line for a person; empty where nothing was stepped."""
    most = max((stepped.steps for stepped in operations), default=0)
    return f"at most {most:,} single steps per operation; the limit is {STEP_LIMIT:,}" if most else ""


class _Stepper:
    """Steps through the operations of one subject."""

    def __init__(self, process: TrialProcess, result: Stepping) -> None:
        self.process = process
        self.subject = process.subject
        self.result = result

    def go(self, operation: str, operator: int) -> None:
        """Step through one operation, and look whether it took effect once."""
        process = self.process
        books, walker = Books(process.driven, operation), Walker(process.driven, self.subject, operator)
        place = f"{operation} by {'a registered' if walker.registered else 'an unregistered'} thread"
        try:
            books.prepare(operator)
            steps = walker.steps(*books.command(operator))
            total = steps.aborts.total()
            ended = not steps.endless
            self.result.operations.append(SteppedOperation(operation, walker.registered, steps.count, total, ended))
            if steps.endless:
                where = most_aborted(self.subject, steps.aborts)
                self._note(place, SteppedCase(ended=False, limit_reached=True, aborts=total), *where)
                process.driven.finish(operator)
            effect = books.settle(operator, ())
            self._note(place, SteppedCase(aborts=total, effects=min(effect.operator, 2)))
        except CrashedError as error:
            self._note(place, SteppedCase(crash=process.describe(error)))
            process.replace()
        except StuckError:
            self._note(place, SteppedCase(stuck=True, known=bool(self.result.found)))
            process.replace()

    def _note(self, place: str, case: SteppedCase, section: str = "", times: int = 0) -> None:
        stepped = f"{place}, single-stepped,"
        row, sentence = judge_stepped(case, operation=stepped, steps=STEP_LIMIT, section=section, times=times)
        if row.is_defect:
            self.result.note(row.result, PHASE, section or place, sentence)


def step(subject: Subject, program: Path) -> Stepping:
    """Single-step every operation of a subject. Raises MissingError where tracing is not allowed."""
    begun = time.monotonic()
    result = Stepping()
    process = TrialProcess(subject, program, choose_cpus())
    stepper = _Stepper(process, result)
    try:
        for operator in (OPERATOR, UNREGISTERED_OPERATOR):
            for operation in subject.operations:
                stepper.go(operation, operator)
    except StartError as error:
        result.found.append(Defect(error.name, PHASE, "start", str(error)))
    except StarvedError as error:
        result.problem = str(error)
    finally:
        process.close()
    result.seconds = time.monotonic() - begun
    return result
