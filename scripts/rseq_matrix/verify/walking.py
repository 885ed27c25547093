"""Where an operation leads: its instructions, found by single-stepping, and its ways through critical sections.

A stop inside of a section that is armed aborts it, so stepping alone never sees what comes behind a commit. The step
that stores into rseq_cs gives the place away; from there on breakpoints are planted where a section can be left, and
the thread runs through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rseq_matrix._native import lib
from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.tracee import BREAKPOINT, COMMAND_LIMIT, StuckError, Tracee

STEP_LIMIT = 20_000
"""Steps of one operation. The built-in subjects give up after 16 aborts, which is far below."""


def section_at(sections: Iterable[Section], address: int) -> Section | None:
    """Return the section whose code holds an address of the file."""
    return next((s for s in sections if s.start <= address < s.start + s.length), None)


def ways_out(section: Section) -> set[int]:
    """Return the addresses that a section is left for, aborts included."""
    end = section.start + section.length
    targets = {i.target for i in section.code if i.mark in ("exit", "branch") and i.target is not None}
    return {end, section.abort, *section.exit_points, *targets} - set(range(section.start, end))


def find_aborts(sections: Sequence[Section], steps: Sequence[int]) -> Counter[tuple[Section, int]]:
    """Count where sections were left by neither of the ways that their instructions lead."""
    found: Counter[tuple[Section, int]] = Counter()
    instructions = {i.address: (section, i) for section in sections for i in section.code}
    for before, after in pairwise(steps):
        if before in instructions:
            section, instruction = instructions[before]
            next_one = before + len(instruction.bytes) // 2
            found[section, before] += after not in (next_one, instruction.target)
    return +found


@dataclass
class Route:
    """What an operation executed of the subject. Addresses are those of the file."""

    addresses: list[int] = field(default_factory=list)
    """Of instructions, each once, in the order of their first execution; those of armed sections are left out."""
    armed: set[int] = field(default_factory=set)
    """Descriptors of the sections that were entered."""
    discovered: bool = False
    """One of them was aborted, because what arms it was not known before: what follows is not the way without one."""
    unprotected: set[int] = field(default_factory=set)
    """Descriptors of sections that a thread without a registration went through to the end."""
    endless: bool = False
    """It did not end within STEP_LIMIT."""


@dataclass(frozen=True)
class Steps:
    """An operation that was single-stepped from the first of the subject's instructions to the last."""

    count: int
    aborts: Counter[tuple[Section, int]]
    """Of sections, by the instruction at which."""
    endless: bool
    """It did not end within STEP_LIMIT."""


class Walker:
    """Walks through operations of one role."""

    def __init__(self, tracee: Tracee, subject: Subject, role: int) -> None:
        self.tracee = tracee
        self.subject = subject
        self.role = role
        self.registered = role in tracee.areas
        self.arming: dict[int, Section] = {}
        """Sections by the instruction that arms them, as far as they are known."""

    def route(self, command: int, *arguments: int) -> Route:
        """Walk through one operation. The thread is back at its gate then, or runs if the route is endless."""
        tracee, role, route = self.tracee, self.role, Route()
        tracee.order(role, command, *arguments)
        steps: list[int] = []
        while True:
            stops = [address + tracee.bias for address in self.arming]
            walk = tracee.walk(role, self.registered, stops, max(1, STEP_LIMIT - len(steps)))
            steps += walk.addresses
            if walk.end == lib.RSM_WALK_ARMED:
                self._note_armed(route, steps)
            elif walk.end == lib.RSM_WALK_AT_STOP:
                section = self.arming[steps[-1] - tracee.bias]
                route.armed.add(section.descriptor)
                steps += self._run_through(section)
            if tracee.stops.get(role) and tracee.stops[role].kind == "gate":
                break
            if walk.end == lib.RSM_WALK_LIMIT or len(steps) >= STEP_LIMIT:
                route.endless = True
                tracee.go_on(role)
                break
        self._note_steps(route, steps)
        return route

    def steps(self, command: int, *arguments: int) -> Steps:
        """Single-step all of one operation. The thread is back at its gate then, or runs if it came to the limit."""
        tracee, role = self.tracee, self.role
        tracee.order(role, command, *arguments)
        walk = tracee.walk(role, False, (), STEP_LIMIT)
        endless = walk.end == lib.RSM_WALK_LIMIT
        if endless:
            tracee.go_on(role)
        own = [index for index, step in enumerate(walk.addresses) if tracee.is_subject(step)]
        inner = walk.addresses[own[0] : own[-1] + 1] if own else []
        steps = [step - tracee.bias if tracee.is_subject(step) else 0 for step in inner]
        return Steps(len(steps), find_aborts(self.subject.sections, steps) if self.registered else Counter(), endless)

    def _note_armed(self, route: Route, steps: list[int]) -> None:
        """The step before the last one armed a section."""
        section = next((s for s in self.subject.sections if self.tracee.is_armed(self.role, s)), None)
        if section and len(steps) > 1:
            self.arming[steps[-2] - self.tracee.bias] = section
            route.armed.add(section.descriptor)
            route.discovered = True

    def _run_through(self, section: Section) -> list[int]:
        """Run from the instruction that arms a section to where it is left; return that place."""
        tracee, role = self.tracee, self.role
        places = [address + tracee.bias for address in ways_out(section)]
        for place in places:
            tracee.patch(place, BREAKPOINT)
        tracee.go_on(role)
        stop = tracee.wait(role, COMMAND_LIMIT)
        if stop is None:
            raise StuckError(role)
        if stop.kind == "trap":
            tracee.leave_trap(role)
        for place in places:
            tracee.restore(place)
        return [stop.address] if stop.kind == "trap" else []

    def _note_steps(self, route: Route, steps: list[int]) -> None:
        tracee, sections = self.tracee, self.subject.sections
        seen: set[int] = set()
        before = 0
        for step in steps:
            if not tracee.is_subject(step):
                before = 0
                continue
            address = step - tracee.bias
            if address not in seen and not (self.registered and section_at(sections, address)):
                route.addresses.append(address)
            seen.add(address)
            left = section_at(sections, before)
            committed = left and before == left.code[-1].address and address == left.start + left.length
            if left and committed and not self.registered:
                route.unprotected.add(left.descriptor)
            before = address
