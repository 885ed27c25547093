"""Interruptions at every instruction: of critical sections, by all that aborts them, and of all the code around them.

Every operation has to take effect exactly once, whatever comes between two of its instructions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.defects import Defect
from rseq_matrix.verify.effects import Books
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.tracee import (
    OPERATOR,
    UNREGISTERED_OPERATOR,
    CrashedError,
    StartError,
    StuckError,
    beside,
    choose_cpus,
)
from rseq_matrix.verify.trials import FAMILY, INSIDE, OUTSIDE, REPEATS, TWO_CPUS, Bench, Place, Trial, UnsupportedError
from rseq_matrix.verify.verdicts import PHASE, how, judge_outside, judge_section, section_name
from rseq_matrix.verify.walking import Route, Walker

OUTSIDE_LIMIT = 300
"""Instructions of one operation that are tried outside of sections; of more, the last ones and some of the others."""
STUCK_LIMIT = 2
"""Trials of one kind that hang, after which the rest of that kind is left out."""
RESTART_LIMIT = 60
"""Processes that may be spoilt by trials, after which no more are made."""

Progress = Callable[[int, int], None]


@dataclass
class SectionResult:
    """What was tried in one section."""

    section: Section
    operations: list[str] = field(default_factory=list)
    """That enter it; none: no interruption could be tried."""
    tried: Counter[str] = field(default_factory=Counter)
    """Instructions at which an interruption happened, by kind."""
    reached: set[int] = field(default_factory=set)
    """Instructions at which any kind of interruption happened."""
    not_reached: dict[str, list[int]] = field(default_factory=dict)
    """By kind, instructions that no operation came to, or at which no interruption of that kind could be proven."""

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        return {
            "function": self.section.function,
            "descriptor": self.section.descriptor,
            "start": self.section.start,
            "instructions": len(self.section.code),
            "operations": self.operations,
            "tried": dict(self.tried),
            "not_reached": self.not_reached,
        }


@dataclass
class OutsideResult:
    """What was tried in one operation outside of sections."""

    operation: str
    operator: int
    registered: bool
    instructions: int
    """That it executes of the subject."""
    left_out: int
    """Of them, because there are so many."""
    tried: Counter[str] = field(default_factory=Counter)
    not_reached: int = 0

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        return {**{k: v for k, v in vars(self).items() if k != "operator"}, "tried": dict(self.tried)}


@dataclass
class Interruptions:
    """The result of the phase."""

    cpus: tuple[int, ...]
    sections: list[SectionResult] = field(default_factory=list)
    outside: list[OutsideResult] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)
    """Kinds that could not be tried, and why."""
    given_up: list[str] = field(default_factory=list)
    """What was left out because too much had gone wrong."""
    repeats: int = 0
    """Trials that were made again, because the interruption came from elsewhere or not at all."""
    seconds: float = 0.0
    found: list[Defect] = field(default_factory=list)
    unsupported: str = ""
    problem: str = ""

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Return what is wrong with the subject."""
        return tuple(self.found)

    @property
    def totals(self) -> dict[str, int]:
        """Return how much was tried."""
        entered = [result for result in self.sections if result.operations]
        return {
            "sections": len(self.sections),
            "sections_entered": len(entered),
            "section_instructions": sum(len(result.section.code) for result in entered),
            "kinds": len({kind for result in entered for kind in result.tried}),
            "section_interruptions": sum(sum(result.tried.values()) for result in self.sections),
            "not_reached": sum(len(places) for result in self.sections for places in result.not_reached.values()),
            "outside_instructions": sum(result.instructions - result.left_out for result in self.outside),
            "outside_interruptions": sum(sum(result.tried.values()) for result in self.outside),
        }

    def counts(self) -> dict[str, int | None]:
        """Return what the phase adds to the totals of a subject."""
        totals = self.totals
        return {"instructions": totals["section_instructions"] + totals["outside_instructions"]}

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        return {
            "cpus": list(self.cpus),
            "totals": self.totals,
            "sections": [result.document() for result in self.sections],
            "outside": [result.document() for result in self.outside],
            "without": self.without,
            "given_up": self.given_up,
            "repeats": self.repeats,
            "seconds": round(self.seconds, 3),
        }


def choose(addresses: list[int], limit: int) -> list[int]:
    """Return at most `limit` of them: the last, where an operation takes effect, and every so many of the others."""
    if len(addresses) <= limit:
        return addresses
    first, last = addresses[: -limit // 2], addresses[-limit // 2 :]
    wanted = limit - len(last)
    return [first[index * len(first) // wanted] for index in range(wanted)] + last


class _Campaign:
    """One subject."""

    def __init__(self, bench: Bench, result: Interruptions) -> None:
        self.bench = bench
        self.subject = bench.subject
        self.result = result
        self.stuck: Counter[tuple[str, int, bool, str]] = Counter()
        self.kinds_without: set[str] = set()

    # --- what there is to try

    def route(self, operation: str, operator: int) -> Route | None:
        """Return the way of an operation that is not interrupted; None where it has none. Note what is wrong there."""
        bench = self.bench
        walker = Walker(bench.tracee, self.subject, operator)
        route = Route()
        try:
            for _ in range(len(self.subject.sections) + 2):
                books = Books(bench.tracee, operation)
                books.prepare(operator)
                route = walker.route(*books.command(operator))
                if route.endless:
                    bench.replace()
                    return route
                books.settle(operator, ())
                if not route.discovered:
                    break
        except (CrashedError, StuckError) as error:
            self._note_broken(operation, error)
            bench.replace()
            return None
        for descriptor in route.unprotected:
            self._note_unprotected(operation, descriptor)
        return route

    def _note_broken(self, operation: str, error: CrashedError | StuckError) -> None:
        name = "crash" if isinstance(error, CrashedError) else "hang"
        got = f"crashed: {self.bench.describe(error)}" if isinstance(error, CrashedError) else "did not end in time"
        sentence = f"{operation}, single-stepped and interrupted by nothing, {got}"
        self.result.found.append(Defect(name, PHASE, operation, sentence))

    def _note_unprotected(self, operation: str, descriptor: int) -> None:
        section = next(s for s in self.subject.sections if s.descriptor == descriptor)
        sentence = f"{section_name(section)}: {operation} commits there in a thread that has no rseq area registered"
        self.result.found.append(Defect("unprotected-fast-path", PHASE, section_name(section), sentence))

    def plan(self) -> list[tuple[Place, str]]:
        """Return all trials that are to be made, and note what they are of."""
        results = {section.descriptor: SectionResult(section) for section in self.subject.sections}
        self.result.sections = list(results.values())
        planned: list[tuple[Place, str]] = []
        for operator in self._operators():
            for operation in self.subject.operations:
                route = self.route(operation, operator)
                if route is None:
                    continue
                for descriptor in sorted(route.armed):
                    results[descriptor].operations.append(operation)
                    planned += self._inside(operation, operator, results[descriptor].section)
                planned += self._outside(operation, operator, route)
        return planned

    def _operators(self) -> list[int]:
        """Return the roles that differ: where no thread is registered they are the same."""
        return [OPERATOR, UNREGISTERED_OPERATOR] if OPERATOR in self.bench.tracee.areas else [OPERATOR]

    def _inside(self, operation: str, operator: int, section: Section) -> Iterator[tuple[Place, str]]:
        for instruction in section.code:
            for kind in INSIDE:
                yield Place(operation, operator, section, instruction.address), kind

    def _outside(self, operation: str, operator: int, route: Route) -> Iterator[tuple[Place, str]]:
        chosen = choose(route.addresses, OUTSIDE_LIMIT)
        registered = operator in self.bench.tracee.areas
        left_out = len(route.addresses) - len(chosen)
        self.result.outside.append(OutsideResult(operation, operator, registered, len(route.addresses), left_out))
        for address in chosen:
            for kind in OUTSIDE:
                yield Place(operation, operator, None, address), kind

    # --- trying

    def run(self, planned: list[tuple[Place, str]], progress: Progress) -> list[Trial]:
        """Make the trials."""
        trials = []
        for done, (place, kind) in enumerate(planned):
            if done % 16 == 0:
                progress(done, len(planned))
            if self._is_left_out(place, kind):
                continue
            try:
                trial = self.bench.attempt(place, kind)
            except UnsupportedError as error:
                self._note_without(kind, str(error))
                continue
            if trial.stuck:
                self.stuck[self._group(place, kind)] += 1
            trials.append(trial)
        progress(len(planned), len(planned))
        return trials

    def _group(self, place: Place, kind: str) -> tuple[str, int, bool, str]:
        return place.operation, place.operator, place.section is not None, kind

    def _is_left_out(self, place: Place, kind: str) -> bool:
        if kind in self.kinds_without:
            return True
        if kind in TWO_CPUS and len(self.result.cpus) < 2:
            self._note_without(kind, "it takes two CPUs, and this process may use only one")
            return True
        if self.bench.restarts >= RESTART_LIMIT:
            self._give_up("everything else, after that many operations went wrong")
            return True
        if self.stuck[self._group(place, kind)] >= STUCK_LIMIT:
            self._give_up(f"{place.operation}: other interruptions by {FAMILY.get(kind, kind)}, after some did not end")
            return True
        return False

    def _note_without(self, kind: str, why: str) -> None:
        self.kinds_without.add(kind)
        self.result.without[kind] = why

    def _give_up(self, what: str) -> None:
        if what not in self.result.given_up:
            self.result.given_up.append(what)

    # --- what came of it

    def conclude(self, trials: list[Trial]) -> None:
        """Count and judge."""
        inside = [trial for trial in trials if trial.place.section]
        outside = [trial for trial in trials if not trial.place.section]
        for result in self.result.sections:
            own = [trial for trial in inside if trial.place.section is result.section]
            result.tried, reached = _happened(own)
            result.reached = {address for address, _ in reached}
            for kind in dict.fromkeys(FAMILY.get(trial.kind, trial.kind) for trial in own):
                missed = [i.address for i in result.section.code if (i.address, kind) not in reached]
                result.not_reached.update({kind: missed} if missed else {})
            self.result.found += judge_section(self.subject, result.section, own)
        for around in self.result.outside:
            own = [trial for trial in outside if trial.place.operator == around.operator]
            own = [trial for trial in own if trial.place.operation == around.operation]
            around.tried, reached = _happened(own)
            around.not_reached = len({trial.place.address for trial in own} - {address for address, _ in reached})
        for operation in self.subject.operations:
            own = [trial for trial in outside if trial.place.operation == operation]
            self.result.found += judge_outside(self.subject, operation, own)

    def problem(self) -> str:
        """Say what keeps the sections from having been interrupted by everything."""
        if self.subject.sections and OPERATOR not in self.bench.tracee.areas:
            return "no thread gets an rseq area registered here, so no critical section is entered"
        for result in self.result.sections:
            for kind, places in result.not_reached.items():
                missed = [place for place in places if place in result.reached]
                if missed and not self.result.given_up:
                    where = f"{section_name(result.section)}: instruction +{missed[0]:#x}"
                    return f"{where} could not be interrupted by {how(kind)}, in {REPEATS} tries, as by other kinds"
        return ""


def _happened(trials: list[Trial]) -> tuple[Counter[str], set[tuple[int, str]]]:
    """Return at how many instructions each kind of interruption happened, and which instructions and kinds."""
    happened = {(trial.place.address, FAMILY.get(trial.kind, trial.kind)) for trial in trials if trial.happened}
    return Counter(kind for _, kind in sorted(happened)), happened


def interrupt(subject: Subject, program: Path, progress: Progress) -> Interruptions:
    """Interrupt every operation of a subject at every instruction. `progress` is told how many of how many trials.

    Raises MissingError where tracing is not allowed.
    """
    begun = time.monotonic()
    result = Interruptions(choose_cpus())
    bench = Bench(subject, program, result.cpus)
    campaign = _Campaign(bench, result)
    try:
        with beside(result.cpus[0]):
            planned = campaign.plan()
            campaign.conclude(campaign.run(planned, progress))
            result.problem = campaign.problem()
    except StartError as error:
        result.found.append(Defect(error.name, PHASE, "start", str(error)))
    finally:
        bench.close()
    result.repeats = bench.repeats
    result.seconds = time.monotonic() - begun
    return result
