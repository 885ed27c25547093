"""Interruptions at every instruction: of critical sections, by all that aborts them, and of all the code around them.

Every operation has to take effect exactly once, whatever happens between two of its instructions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rseq_matrix.documents.verify import Defect
from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.driven import OPERATOR, StartError, StarvedError, beside, choose_cpus
from rseq_matrix.verify.interruption_plan import InterruptionPlan
from rseq_matrix.verify.interruption_results import Interruptions
from rseq_matrix.verify.naming import kind_in_words, section_name
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.trial_judgement import PHASE, judge_outside, judge_section
from rseq_matrix.verify.trial_process import REPEATS, TrialProcess
from rseq_matrix.verify.trials import FAMILY, TWO_CPUS, InterruptionPoint, InterruptionTrial, UnsupportedError

OUTSIDE_SECONDS = 12.0
"""After which no more instructions outside of sections are tried: on a busy machine every change of threads takes time.
"""
STUCK_LIMIT = 2
"""Trials of one kind that hang, after which the rest of that kind is left out."""
RESTART_LIMIT = 60
"""Processes that may be spoilt by trials, after which no more are made."""

Progress = Callable[[int, int], None]


class _Trials:
    """The trials of one subject."""

    def __init__(self, process: TrialProcess, result: Interruptions) -> None:
        self.process = process
        self.subject = process.subject
        self.result = result
        self.stuck: Counter[tuple[str, bool, str]] = Counter()
        self.kinds_without: set[str] = set()
        self.trials: list[InterruptionTrial] = []
        self.outside_end = 0.0
        self.late = 0

    def run(self, planned: list[tuple[InterruptionPoint, str]], progress: Progress) -> None:
        """Make the trials."""
        self.outside_end = time.monotonic() + OUTSIDE_SECONDS
        for done, (point, kind) in enumerate(planned):
            if done % 16 == 0:
                progress(done, len(planned))
            if self._is_left_out(point, kind):
                continue
            try:
                trial = self.process.attempt(point, kind)
            except UnsupportedError as error:
                self._note_without(kind, str(error))
                continue
            if trial.stuck:
                self.stuck[self._group(point, kind)] += 1
            self.trials.append(trial)
        if self.late:
            self._give_up(
                f"{self.late} interruptions outside of critical sections, after {OUTSIDE_SECONDS:.0f} seconds"
            )
        progress(len(planned), len(planned))

    def _group(self, point: InterruptionPoint, kind: str) -> tuple[str, bool, str]:
        return point.operation, point.section is not None, kind

    def _is_left_out(self, point: InterruptionPoint, kind: str) -> bool:
        if kind in TWO_CPUS and len(self.result.cpus) < 2:
            self._note_without(kind, "it takes two CPUs, and this process may use only one")
        if kind in self.kinds_without:
            return True
        if point.section is None and time.monotonic() > self.outside_end:
            self.late += 1
            return True
        if self.process.restarts >= RESTART_LIMIT:
            self._give_up(f"everything else, after operations went wrong in {RESTART_LIMIT} processes")
            return True
        if self.stuck[self._group(point, kind)] >= STUCK_LIMIT:
            self._give_up(
                f"{point.operation}: other interruptions by {FAMILY.get(kind, kind)}, after some did not return"
            )
            return True
        return False

    def _note_without(self, kind: str, why: str) -> None:
        self.kinds_without.add(kind)
        self.result.without[kind] = why

    def _give_up(self, what: str) -> None:
        if what not in self.result.given_up:
            self.result.given_up.append(what)

    def conclude(self) -> None:
        """Count and judge: first the sections that are entered without an abort of another one, then the others."""
        broken = self._conclude_sections()
        outside = [trial for trial in self.trials if not trial.point.section]
        self._count_outside(outside)
        names = {defect.name for defect in self.result.found}
        for operation in self.subject.operations:
            own = [trial for trial in outside if trial.point.operation == operation]
            self.result.found += judge_outside(self.subject, operation, own, broken, names)

    def _conclude_sections(self) -> list[Section]:
        """Count and judge what was interrupted inside. Returns the sections that have a defect."""
        broken: list[Section] = []
        for result in sorted(self.result.sections, key=lambda result: result.after is not None):
            own = [trial for trial in self.trials if trial.point.section is result.section]
            result.tried, reached = _happened(own)
            result.reached = {address for address, _ in reached}
            for kind in dict.fromkeys(FAMILY.get(trial.kind, trial.kind) for trial in own):
                missed = [i.address for i in result.section.code if (i.address, kind) not in reached]
                result.not_reached.update({kind: missed} if missed else {})
            found = judge_section(self.subject, result.section, own, broken)
            broken += [result.section] if found else []
            self.result.found += found
        return broken

    def _count_outside(self, outside: list[InterruptionTrial]) -> None:
        for around in self.result.outside:
            way = (around.operation, around.operator, around.after)
            own = [t for t in outside if (t.point.operation, t.point.operator, t.point.after) == way]
            around.tried, reached = _happened(own)
            around.not_reached = len({trial.point.address for trial in own} - {address for address, _ in reached})

    def problem(self) -> str:
        """Say what keeps the sections from having been interrupted by everything."""
        if self.subject.sections and OPERATOR not in self.process.driven.areas:
            return "no thread gets an rseq area registered here, so no critical section is entered"
        for result in self.result.sections:
            for kind, places in result.not_reached.items():
                missed = [place for place in places if place in result.reached]
                if missed and not self.result.given_up:
                    where = f"{section_name(result.section)}: instruction +{missed[0]:#x}"
                    failed = f"could not be interrupted by {kind_in_words(kind)} in {REPEATS} tries"
                    return f"{where} {failed}, but could by other kinds"
        return ""


def _happened(trials: list[InterruptionTrial]) -> tuple[Counter[str], set[tuple[int, str]]]:
    """Return at how many instructions each kind of interruption happened, and which instructions and kinds.

    Where something went wrong, that is enough: it is not tried again until it is proven what interrupted.
    """
    counted = [trial for trial in trials if trial.happened or not trial.right]
    happened = {(trial.point.address, FAMILY.get(trial.kind, trial.kind)) for trial in counted}
    return Counter(kind for _, kind in sorted(happened)), happened


def interrupt(subject: Subject, program: Path, progress: Progress) -> Interruptions:
    """Interrupt every operation of a subject at every instruction.

    `progress` is called with how many of how many trials are done.

    Raises MissingError where tracing is not allowed.
    """
    begun = time.monotonic()
    result = Interruptions(choose_cpus())
    process = TrialProcess(subject, program, result.cpus)
    trials = _Trials(process, result)
    try:
        with beside(result.cpus[0]):
            trials.run(InterruptionPlan(process, result).trials(), progress)
            trials.conclude()
            result.problem = trials.problem()
    except StartError as error:
        result.found.append(Defect(error.name, PHASE, "start", str(error)))
    except StarvedError as error:
        trials.conclude()
        result.problem = str(error)
    finally:
        process.close()
    result.repeats = process.repeats
    result.seconds = time.monotonic() - begun
    return result
