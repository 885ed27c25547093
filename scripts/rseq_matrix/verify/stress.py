"""The subject under stress: all threads work on the same per-CPU data at once, and at the end all is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix.documents.reading import DamagedError, read
from rseq_matrix.documents.verify import Defect
from rseq_matrix.documents.verify_phases import StressFound, StressTotals
from rseq_matrix.verify import supervised
from rseq_matrix.verify.stress_judgement import judge
from rseq_matrix.verify.stress_modes import DEFAULT, HALF_NEEDS, HALF_REGISTERED, MODES, TUNABLE_OFF, Mode, StressReport
from rseq_matrix.verify.subject import Subject

RSEQ_OFF = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
ENVIRONMENTS = {DEFAULT: {}, TUNABLE_OFF: RSEQ_OFF, HALF_REGISTERED: RSEQ_OFF}
MODES_SHOWN = {
    DEFAULT: DEFAULT,
    TUNABLE_OFF: f"{TUNABLE_OFF} (no rseq)",
    HALF_REGISTERED: f"{HALF_REGISTERED} (rseq in half of the threads)",
}
GRACE = 40.0
"""Seconds beyond its time that the program may take; its own limits (csrc/verify/supervised.c) end it before that."""


@dataclass(frozen=True)
class Stress:
    """The phase's result."""

    subject: Subject
    modes: tuple[Mode, ...]

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Return what was found, an entry for each name."""
        return judge(self.subject, self.modes)

    @property
    def unsupported(self) -> str:
        """Say why there was no run at all."""
        reasons = [mode.unsupported for mode in self.modes if mode.unsupported]
        return reasons[0] if len(reasons) == len(self.modes) else ""

    @property
    def problem(self) -> str:
        """Say what was not done that should have been; empty if all was."""
        return "; ".join(f"{mode.name}: {mode.incomplete}" for mode in self.modes if mode.incomplete)

    @property
    def untold(self) -> tuple[str, ...]:
        """Return the counts that the subject does not tell."""
        tells_path = "rsm_subject_path" in self.subject.exports
        tells_aborts = "rsm_subject_aborts" in self.subject.exports
        return (*(() if tells_path else ("fast", "fallback")), *(() if tells_aborts else ("aborts",)))

    @property
    def totals(self) -> StressTotals:
        """Return the sums over the modes."""
        known = {name: None if name in self.untold else self._counted(name) for name in ("fast", "fallback", "aborts")}
        return StressTotals(
            operations=self._total("operations"),
            **known,
            lost=self._total("adds_lost") + self._total("nodes_lost"),
            doubled=self._total("adds_doubled") + self._total("nodes_doubled"),
        )

    def counts(self) -> dict[str, int | None]:
        """Return what the phase adds to the totals of a subject (SubjectTotals)."""
        return vars(self.totals)

    def _total(self, name: str) -> int:
        return sum(getattr(mode, name) for mode in self.modes)

    def _counted(self, name: str) -> int:
        return sum(mode.count(name) for mode in self.modes)

    def document(self) -> StressFound:
        """Return it as the JSON document holds it."""
        return StressFound(self._said(), tuple(mode.document(self.untold) for mode in self.modes), self.totals)

    def _said(self) -> str:
        run = [mode for mode in self.modes if mode.report]
        counts = ", ".join(f"{mode.operations:,} in mode {MODES_SHOWN[mode.name]}" for mode in run)
        parts = [f"operations: {counts or 0}"]
        parts += [f"mode {mode.name} not run ({mode.unsupported})" for mode in self.modes if mode.unsupported]
        if any(mode.report and mode.report.fork_data == "own" for mode in run):
            parts.append("fork children have data of their own and are judged separately")
        return "; ".join(parts)


# --- the run


def _read(name: str, outcome: supervised.ProgramEnd) -> Mode:
    try:
        return Mode(name, read(StressReport, json.loads(outcome.output)))
    except (ValueError, DamagedError):
        return Mode(name, None, outcome.ending, killed=outcome.status is None or outcome.status < 0)


def _unsupported(subject: Subject, name: str) -> str:
    lacks = name == HALF_REGISTERED and HALF_NEEDS not in subject.exports
    return f"the subject has no {HALF_NEEDS}(), so it registers no thread" if lacks else ""


def stress(subject: Subject, program: Path, seconds: float, progress: Callable[[float], None]) -> Stress:
    """Put the subject under stress in every mode that it can have, for `seconds` in all.

    `progress` is called with the part that is done, 0 to 1.
    """
    reasons = {name: _unsupported(subject, name) for name in MODES}
    wanted = [name for name, reason in reasons.items() if not reason]
    share = seconds / len(wanted)
    modes: list[Mode] = []
    for name, reason in reasons.items():
        hung = next((f"mode {mode.name} did not end" for mode in modes if mode.hung), "")
        if reason := reason or hung:
            modes.append(Mode(name, unsupported=reason))
            continue
        place = wanted.index(name)

        def tick(elapsed: float, place: int = place) -> None:
            progress((place + min(1.0, elapsed / share)) / len(wanted))

        environment = subject.environment() | ENVIRONMENTS[name]
        outcome = supervised.run([str(program), name, f"{share:.3f}"], environment, share + GRACE, tick)
        modes.append(_read(name, outcome))
    return Stress(subject, tuple(modes))
