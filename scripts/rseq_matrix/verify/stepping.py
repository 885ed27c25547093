"""Progress under single-stepping, where every try of a critical section is aborted: each operation has to end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rseq_matrix.verify.defects import Defect
from rseq_matrix.verify.driven import (
    OPERATOR,
    UNREGISTERED_OPERATOR,
    CrashedError,
    StartError,
    StarvedError,
    StuckError,
    choose_cpus,
)
from rseq_matrix.verify.effects import Books, Effect
from rseq_matrix.verify.result import Found
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.trials import Bench
from rseq_matrix.verify.verdicts import Instructions, section_name, wrong_effect
from rseq_matrix.verify.walking import STEP_LIMIT, Steps, Walker

PHASE = "stepping"


@dataclass(frozen=True)
class Stepped:
    """One operation that was single-stepped."""

    operation: str
    registered: bool
    steps: int
    """From the subject's first instruction to its last, those of what it calls included."""
    aborts: int
    """Of critical sections."""
    ended: bool
    """Within STEP_LIMIT."""


@dataclass(kw_only=True)
class Stepping(Found):
    """The result of the phase."""

    operations: list[Any] = field(default_factory=list)
    """Stepped, or what another stepper notes of an operation."""

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        return {
            "said": self._said(),
            "limit": STEP_LIMIT,
            "operations": [vars(stepped) for stepped in self.operations],
            "seconds": round(self.seconds, 3),
        }

    def _said(self) -> str:
        most = max((stepped.steps for stepped in self.operations), default=0)
        return f"at most {most:,} steps an operation, allowed are {STEP_LIMIT:,}" if most else ""


class _Stepper:
    """Steps through the operations of one subject."""

    def __init__(self, bench: Bench, result: Stepping) -> None:
        self.bench = bench
        self.subject = bench.subject
        self.result = result

    def go(self, operation: str, operator: int) -> None:
        """Step through one operation, and look whether it took effect once."""
        bench = self.bench
        books, walker = Books(bench.driven, operation), Walker(bench.driven, self.subject, operator)
        place = f"{operation} by {'a registered' if walker.registered else 'an unregistered'} thread"
        try:
            books.prepare(operator)
            steps = walker.steps(*books.command(operator))
            total = steps.aborts.total()
            self.result.operations.append(Stepped(operation, walker.registered, steps.count, total, not steps.endless))
            if steps.endless:
                self._note_endless(place, steps)
                bench.driven.finish(operator)
            self._judge(place, steps, books.settle(operator, ()))
        except CrashedError as error:
            self.result.note("crash", PHASE, place, f"{place}, single-stepped, crashed: {bench.describe(error)}")
            bench.replace()
        except StuckError:
            if not self.result.found:
                self.result.note("hang", PHASE, place, f"{place}, single-stepped, did not end")
            bench.replace()

    def _note_endless(self, place: str, steps: Steps) -> None:
        limit = f"{place} did not end within {STEP_LIMIT} single steps, where a bounded number of tries ends"
        if not steps.aborts:
            self.result.note("hang", PHASE, place, f"{limit}; no critical section was aborted in them")
            return
        (section, address), count = steps.aborts.most_common(1)[0]
        where = f"{section_name(section)}, {Instructions(self.subject).name(address)}"
        self.result.note(
            "livelock", PHASE, where, f"{limit}: {where}, was aborted {count} times, and each time it was tried again"
        )

    def _judge(self, place: str, steps: Steps, effect: Effect) -> None:
        if effect.right:
            return
        name, got = wrong_effect(effect.operator == 0, bool(steps.aborts))
        aborts = f" after {steps.aborts.total()} aborts" if steps.aborts else ""
        self.result.note(name, PHASE, place, f"{place}, single-stepped, took {got}{aborts}; wanted was effect once")


def step(subject: Subject, program: Path) -> Stepping:
    """Single-step every operation of a subject. Raises MissingError where tracing is not allowed."""
    begun = time.monotonic()
    result = Stepping()
    bench = Bench(subject, program, choose_cpus())
    stepper = _Stepper(bench, result)
    try:
        for operator in (OPERATOR, UNREGISTERED_OPERATOR):
            for operation in subject.operations:
                stepper.go(operation, operator)
    except StartError as error:
        result.found.append(Defect(error.name, PHASE, "start", str(error)))
    except StarvedError as error:
        result.problem = str(error)
    finally:
        bench.close()
    result.seconds = time.monotonic() - begun
    return result
