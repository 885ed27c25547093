"""The process in which operations are interrupted or stepped, and the trials that are made in it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from rseq_matrix.verify.driven import CrashedError, DrivenProcess, StuckError, started
from rseq_matrix.verify.one_interruption import OneInterruption
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.trials import InterruptionPoint, InterruptionTrial, UnsupportedError

REPEATS = 20
"""How often an interruption of a critical section is tried again that did not happen where it was meant to."""


class TrialProcess:
    """The process in which trials are made. One that was damaged by a trial is replaced."""

    def __init__(self, subject: Subject, program: Path, cpus: tuple[int, ...]) -> None:
        self.subject = subject
        self.program = program
        self.cpus = cpus
        self.restarts = 0
        self.repeats = 0
        self._context: AbstractContextManager[DrivenProcess] | None = None
        self._driven: DrivenProcess | None = None

    @property
    def driven(self) -> DrivenProcess:
        """Return a process with all threads at their gates."""
        if self._driven is None:
            self._context = started(self.subject, self.program, self.cpus)
            self._driven = self._context.__enter__()
        return self._driven

    def close(self) -> None:
        """End the process."""
        if self._context:
            context, self._context, self._driven = self._context, None, None
            context.__exit__(None, None, None)

    def replace(self) -> None:
        """End the process; the next trial gets another."""
        self.restarts += 1
        self.close()

    # --- trials

    def attempt(self, point: InterruptionPoint, kind: str) -> InterruptionTrial:
        """Try one interruption. One that did not happen is repeated, unless something was wrong."""
        trial = self._once(point, kind)
        for _ in range(REPEATS if point.section else 1):
            if trial.happened or not trial.right:
                break
            self.repeats += 1
            trial = self._once(point, kind)
        return trial

    def _once(self, point: InterruptionPoint, kind: str) -> InterruptionTrial:
        try:
            interruption = OneInterruption(self.driven, point)
            happened = interruption.go(kind)
            trial = InterruptionTrial(point, kind, happened, interruption.settle())
        except StuckError:
            trial = InterruptionTrial(point, kind, True, stuck=True)
        except CrashedError as error:
            trial = InterruptionTrial(point, kind, True, crash=self.describe(error))
        except UnsupportedError:
            self.replace()
            raise
        if trial.stuck or trial.crash or not (trial.right or point.operation == "add"):
            self.replace()
        return trial

    def describe(self, error: CrashedError) -> str:
        """Return the signal and where it was."""
        driven = self._driven
        if not error.address or driven is None:
            return error.signal
        inside = driven.is_subject(error.address)
        return (
            f"{error.signal} at {error.address - driven.bias:#x}" if inside else f"{error.signal} outside of its code"
        )
