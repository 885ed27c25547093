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
from rseq_matrix.verify.driven import (
    OPERATOR,
    UNREGISTERED_OPERATOR,
    CrashedError,
    StartError,
    StarvedError,
    StuckError,
    beside,
    choose_cpus,
)
from rseq_matrix.verify.effects import Books
from rseq_matrix.verify.result import Found
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.trials import FAMILY, INSIDE, OUTSIDE, REPEATS, TWO_CPUS, Bench, Place, Trial, UnsupportedError
from rseq_matrix.verify.verdicts import PHASE, how, is_explained, judge_outside, judge_section, section_name
from rseq_matrix.verify.walking import Route, Walker

OUTSIDE_LIMIT = 300
"""Instructions of one operation that are tried outside of sections; of more, the last ones and some of the others."""
OUTSIDE_SECONDS = 12.0
"""After which no more of them are tried: on a machine that others keep busy every change of threads takes its time."""
SPREAD = 17
"""Every so many of them are tried first, and then those between them."""
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
    after: Section | None = None
    """The section whose abort leads to it; None: an operation enters it that nothing interrupted."""
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
            "after_abort_of": self.after.start if self.after else None,
            "tried": dict(self.tried),
            "not_reached": self.not_reached,
        }


@dataclass
class OutsideResult:
    """What was tried in one operation outside of sections."""

    operation: str
    operator: int
    registered: bool
    after: Section | None
    """A section that is aborted first: what the operation does only then."""
    instructions: int
    """That it executes of the subject."""
    left_out: int
    """Of them, because there are so many."""
    tried: Counter[str] = field(default_factory=Counter)
    not_reached: int = 0

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        kept = ("operation", "registered", "instructions", "left_out", "not_reached")
        after = self.after.start if self.after else None
        return {**{name: getattr(self, name) for name in kept}, "after_abort_of": after, "tried": dict(self.tried)}


@dataclass
class Interruptions(Found):
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
            "said": self._said(),
            "cpus": list(self.cpus),
            "totals": self.totals,
            "sections": [result.document() for result in self.sections],
            "outside": [result.document() for result in self.outside],
            "without": self.without,
            "given_up": self.given_up,
            "repeats": self.repeats,
            "seconds": round(self.seconds, 3),
        }

    def _said(self) -> str:
        totals = self.totals
        inside = f"{totals['section_instructions']} instructions in them x {totals['kinds']} kinds"
        inside = f"{totals['sections_entered']} sections, {inside}: {totals['section_interruptions']:,}"
        left = totals["sections"] - totals["sections_entered"]
        unreached = f"; {left} sections that no operation enters" if left else ""
        return f"{inside}; {totals['outside_interruptions']:,} around them{unreached}"


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
        self.stuck: Counter[tuple[str, bool, str]] = Counter()
        self.kinds_without: set[str] = set()
        self.trials: list[Trial] = []
        self.outside_end = 0.0
        self.late = 0

    # --- what there is to try

    def routes(self, operation: str, operator: int) -> list[tuple[Route, Section | None]]:
        """Return the way of an operation that is not interrupted, and those after an abort of each of its sections.

        Note what is wrong there.
        """
        walker = Walker(self.bench.driven, self.subject, operator)
        try:
            route = self._walk(walker, operation)
            for _ in self.subject.sections:
                discovered, route = route.discovered, self._walk(walker, operation)
                if not discovered or route.endless:
                    break
            found: list[tuple[Route, Section | None]] = [(route, None)]
            for section in self.subject.sections:
                if section.descriptor in route.armed and not route.endless:
                    found.append((self._walk(walker, operation, section), section))
        except (CrashedError, StuckError) as error:
            self._note_broken(operation, error)
            self.bench.replace()
            return []
        for descriptor in route.unprotected:
            self._note_unprotected(operation, descriptor)
        return found

    def _walk(self, walker: Walker, operation: str, aborting: Section | None = None) -> Route:
        books = Books(walker.driven, operation)
        books.prepare(walker.role)
        route = walker.route(*books.command(walker.role), aborting)
        if route.endless:
            self.bench.replace()
        else:
            books.settle(walker.role, ())
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
        inside: list[tuple[Place, str]] = []
        outside: list[tuple[Place, str]] = []
        for operator in self._operators():
            for operation in self.subject.operations:
                seen: set[int] = set()
                for route, after in self.routes(operation, operator):
                    for descriptor in sorted(route.armed - seen):
                        results[descriptor].operations.append(operation)
                        results[descriptor].after = after
                        inside += self._inside(operation, operator, results[descriptor].section, after)
                    outside += self._outside(operation, operator, [a for a in route.addresses if a not in seen], after)
                    seen.update(route.armed, route.addresses)
        spread = [trial for first in range(SPREAD) for trial in outside[first::SPREAD]]
        return inside + spread

    def _operators(self) -> list[int]:
        """Return the roles that differ: where no thread is registered they are the same."""
        return [OPERATOR, UNREGISTERED_OPERATOR] if OPERATOR in self.bench.driven.areas else [OPERATOR]

    def _inside(
        self, operation: str, operator: int, section: Section, after: Section | None
    ) -> Iterator[tuple[Place, str]]:
        for instruction in section.code:
            for kind in INSIDE:
                yield Place(operation, operator, section, instruction.address, after), kind

    def _outside(
        self, operation: str, operator: int, addresses: list[int], after: Section | None
    ) -> Iterator[tuple[Place, str]]:
        chosen = choose(addresses, OUTSIDE_LIMIT)
        registered = operator in self.bench.driven.areas
        around = OutsideResult(operation, operator, registered, after, len(addresses), len(addresses) - len(chosen))
        self.result.outside.append(around)
        for address in chosen:
            for kind in OUTSIDE:
                yield Place(operation, operator, None, address, after), kind

    # --- trying

    def run(self, planned: list[tuple[Place, str]], progress: Progress) -> None:
        """Make the trials."""
        self.outside_end = time.monotonic() + OUTSIDE_SECONDS
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
            self.trials.append(trial)
        if self.late:
            self._give_up(
                f"{self.late} interruptions outside of critical sections, after {OUTSIDE_SECONDS:.0f} seconds"
            )
        progress(len(planned), len(planned))

    def _group(self, place: Place, kind: str) -> tuple[str, bool, str]:
        return place.operation, place.section is not None, kind

    def _is_left_out(self, place: Place, kind: str) -> bool:
        if kind in TWO_CPUS and len(self.result.cpus) < 2:
            self._note_without(kind, "it takes two CPUs, and this process may use only one")
        if kind in self.kinds_without:
            return True
        if place.section is None and time.monotonic() > self.outside_end:
            self.late += 1
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

    def conclude(self) -> None:
        """Count and judge."""
        inside = [trial for trial in self.trials if trial.place.section]
        outside = [trial for trial in self.trials if not trial.place.section]
        broken: list[Section] = []
        for result in sorted(self.result.sections, key=lambda result: result.after is not None):
            own = [trial for trial in inside if trial.place.section is result.section]
            result.tried, reached = _happened(own)
            result.reached = {address for address, _ in reached}
            for kind in dict.fromkeys(FAMILY.get(trial.kind, trial.kind) for trial in own):
                missed = [i.address for i in result.section.code if (i.address, kind) not in reached]
                result.not_reached.update({kind: missed} if missed else {})
            found = judge_section(self.subject, result.section, _beyond(own, broken))
            broken += [result.section] if found else []
            self.result.found += found
        for around in self.result.outside:
            own = [trial for trial in outside if trial.place.after is around.after]
            own = [trial for trial in own if trial.place.operator == around.operator]
            own = [trial for trial in own if trial.place.operation == around.operation]
            around.tried, reached = _happened(own)
            around.not_reached = len({trial.place.address for trial in own} - {address for address, _ in reached})
        names = {defect.name for defect in self.result.found}
        for operation in self.subject.operations:
            own = [trial for trial in _beyond(outside, broken) if trial.place.operation == operation]
            own = [trial for trial in own if not is_explained(trial, names)]
            self.result.found += judge_outside(self.subject, operation, own)

    def problem(self) -> str:
        """Say what keeps the sections from having been interrupted by everything."""
        if self.subject.sections and OPERATOR not in self.bench.driven.areas:
            return "no thread gets an rseq area registered here, so no critical section is entered"
        for result in self.result.sections:
            for kind, places in result.not_reached.items():
                missed = [place for place in places if place in result.reached]
                if missed and not self.result.given_up:
                    where = f"{section_name(result.section)}: instruction +{missed[0]:#x}"
                    return f"{where} could not be interrupted by {how(kind)}, in {REPEATS} tries, as by other kinds"
        return ""


def _beyond(trials: list[Trial], broken: list[Section]) -> list[Trial]:
    """Leave out trials for which a section was aborted that does not bear it: they are wrong by that alone."""
    return [trial for trial in trials if trial.place.after not in broken]


def _happened(trials: list[Trial]) -> tuple[Counter[str], set[tuple[int, str]]]:
    """Return at how many instructions each kind of interruption happened, and which instructions and kinds.

    Where something went wrong, that is enough: it is not tried again until it is proven what interrupted.
    """
    counted = [trial for trial in trials if trial.happened or not trial.right]
    happened = {(trial.place.address, FAMILY.get(trial.kind, trial.kind)) for trial in counted}
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
            campaign.run(planned, progress)
            campaign.conclude()
            result.problem = campaign.problem()
    except StartError as error:
        result.found.append(Defect(error.name, PHASE, "start", str(error)))
    except StarvedError as error:
        campaign.conclude()
        result.problem = str(error)
    finally:
        bench.close()
    result.repeats = bench.repeats
    result.seconds = time.monotonic() - begun
    return result
