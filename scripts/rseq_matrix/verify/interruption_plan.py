"""What is to be tried with a subject: every kind of interruption, at every instruction that its operations execute."""

from __future__ import annotations

from collections.abc import Iterator

from rseq_matrix.documents.verify import Defect
from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.cases import SteppedCase
from rseq_matrix.verify.driven import OPERATOR, UNREGISTERED_OPERATOR, CrashedError, StuckError
from rseq_matrix.verify.effects import Books
from rseq_matrix.verify.interruption_results import Interruptions, OutsideResult, SectionResult
from rseq_matrix.verify.naming import section_name
from rseq_matrix.verify.step_judgement import judge_stepped
from rseq_matrix.verify.trial_judgement import PHASE
from rseq_matrix.verify.trial_process import TrialProcess
from rseq_matrix.verify.trials import INSIDE, OUTSIDE, InterruptionPoint
from rseq_matrix.verify.walking import Route, Walker

OUTSIDE_LIMIT = 300
"""Instructions of one operation that are tried outside of sections; of more, the last ones and some of the others."""
SPREAD = 17
"""Every so many of them are tried first, and then those between them."""


def choose(addresses: list[int], limit: int) -> list[int]:
    """Return at most `limit` of them: the last, where an operation takes effect, and every so many of the others."""
    if len(addresses) <= limit:
        return addresses
    first, last = addresses[: -limit // 2], addresses[-limit // 2 :]
    wanted = limit - len(last)
    return [first[index * len(first) // wanted] for index in range(wanted)] + last


class InterruptionPlan:
    """Walks through the operations of one subject, and notes what is wrong already there."""

    def __init__(self, process: TrialProcess, result: Interruptions) -> None:
        self.process = process
        self.subject = process.subject
        self.result = result

    def routes(self, operation: str, operator: int) -> list[tuple[Route, Section | None]]:
        """Return the way of an operation that is not interrupted, and those after an abort of each of its sections.

        Note what is wrong there.
        """
        walker = Walker(self.process.driven, self.subject, operator)
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
            self.process.replace()
            return []
        for descriptor in route.unprotected:
            self._note_unprotected(operation, descriptor)
        return found

    def _walk(self, walker: Walker, operation: str, aborting: Section | None = None) -> Route:
        books = Books(walker.driven, operation)
        books.prepare(walker.role)
        route = walker.route(*books.command(walker.role), aborting)
        if route.endless:
            self.process.replace()
        else:
            books.settle(walker.role, ())
        return route

    def _note_broken(self, operation: str, error: CrashedError | StuckError) -> None:
        crash = self.process.describe(error) if isinstance(error, CrashedError) else ""
        stepped = f"{operation}, single-stepped and not interrupted,"
        row, sentence = judge_stepped(SteppedCase(crash=crash, stuck=not crash), operation=stepped, crash=crash)
        self.result.found.append(Defect(row.result, PHASE, operation, sentence))

    def _note_unprotected(self, operation: str, descriptor: int) -> None:
        name = section_name(next(s for s in self.subject.sections if s.descriptor == descriptor))
        row, sentence = judge_stepped(SteppedCase(unprotected=True), operation=operation, section=name)
        self.result.found.append(Defect(row.result, PHASE, name, sentence))

    def trials(self) -> list[tuple[InterruptionPoint, str]]:
        """Return all trials that are to be made, and note what they are of."""
        results = {section.descriptor: SectionResult(section) for section in self.subject.sections}
        self.result.sections = list(results.values())
        inside: list[tuple[InterruptionPoint, str]] = []
        outside: list[tuple[InterruptionPoint, str]] = []
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
        return [OPERATOR, UNREGISTERED_OPERATOR] if OPERATOR in self.process.driven.areas else [OPERATOR]

    def _inside(
        self, operation: str, operator: int, section: Section, after: Section | None
    ) -> Iterator[tuple[InterruptionPoint, str]]:
        for instruction in section.code:
            for kind in INSIDE:
                yield InterruptionPoint(operation, operator, section, instruction.address, after), kind

    def _outside(
        self, operation: str, operator: int, addresses: list[int], after: Section | None
    ) -> Iterator[tuple[InterruptionPoint, str]]:
        chosen = choose(addresses, OUTSIDE_LIMIT)
        registered = operator in self.process.driven.areas
        around = OutsideResult(operation, operator, registered, after, len(addresses), len(addresses) - len(chosen))
        self.result.outside.append(around)
        for address in chosen:
            for kind in OUTSIDE:
                yield InterruptionPoint(operation, operator, None, address, after), kind
