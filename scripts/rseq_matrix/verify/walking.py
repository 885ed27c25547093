"""Where an operation leads: its instructions, found by single-stepping, and its ways through critical sections.

A stop inside of a section that is armed aborts it, so stepping alone never sees what comes behind a commit. The step
that stores into rseq_cs shows the place; from there on breakpoints are set where a section can be left, and
the thread runs through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rseq_matrix._native import lib
from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.driven import BREAKPOINT, GATE, TRAP, DrivenProcess
from rseq_matrix.verify.subject import Subject

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

    def __init__(self, driven: DrivenProcess, subject: Subject, role: int) -> None:
        self.driven = driven
        self.subject = subject
        self.role = role
        self.registered = role in driven.areas
        self.arming: dict[int, Section] = {}
        """Sections by the instruction that arms them, as far as they are known."""

    def route(self, command: int, argument: int, aborting: Section | None = None) -> Route:
        """Walk through one operation, and abort one section the first time that it is entered.

        The thread is back at its gate then, or runs if the route is endless.
        """
        driven, role, route = self.driven, self.role, Route()
        driven.order(role, command, argument)
        steps: list[int] = []
        while True:
            stops = [address + driven.bias for address in self.arming]
            walk = driven.walk(role, self.registered, stops, max(1, STEP_LIMIT - len(steps)))
            steps += walk.addresses
            if walk.end == lib.RSM_WALK_ARMED:
                self._note_armed(route, steps)
            elif walk.end == lib.RSM_WALK_AT_STOP:
                section = self.arming[steps[-1] - driven.bias]
                route.armed.add(section.descriptor)
                if section is aborting:
                    aborting = None  # by stepping on
                else:
                    steps += self._run_through(section)
            stop = driven.stop_of(role)
            if stop and stop.kind == GATE:
                break
            if walk.end == lib.RSM_WALK_LIMIT or len(steps) >= STEP_LIMIT:
                route.endless = True
                driven.restart(role)
                break
        self._note_steps(route, steps)
        return route

    def steps(self, command: int, *arguments: int) -> Steps:
        """Single-step all of one operation. The thread is back at its gate then, or runs if it came to the limit."""
        driven, role = self.driven, self.role
        driven.order(role, command, *arguments)
        walk = driven.walk(role, False, (), STEP_LIMIT)
        endless = walk.end == lib.RSM_WALK_LIMIT
        if endless:
            driven.restart(role)
        own = [index for index, step in enumerate(walk.addresses) if driven.is_subject(step)]
        inner = walk.addresses[own[0] : own[-1] + 1] if own else []
        steps = [step - driven.bias if driven.is_subject(step) else 0 for step in inner]
        return Steps(len(steps), find_aborts(self.subject.sections, steps) if self.registered else Counter(), endless)

    def _note_armed(self, route: Route, steps: list[int]) -> None:
        """The step before the last one armed a section."""
        section = next((s for s in self.subject.sections if self.driven.is_armed(self.role, s)), None)
        if section and len(steps) > 1 and steps[-2] - self.driven.bias not in self.arming:
            self.arming[steps[-2] - self.driven.bias] = section
            route.armed.add(section.descriptor)
            route.discovered = True

    def _run_through(self, section: Section) -> list[int]:
        """Run from the instruction that arms a section to where it is left; return that place."""
        driven, role = self.driven, self.role
        places = [address + driven.bias for address in ways_out(section)]
        for place in places:
            driven.patch(place, BREAKPOINT)
        driven.restart(role)
        stop = driven.await_stop_of(role)
        if stop.kind == TRAP:
            driven.leave_trap(role)
        for place in places:
            driven.restore(place)
        return [stop.address] if stop.kind == TRAP else []

    def _note_steps(self, route: Route, steps: list[int]) -> None:
        driven, sections = self.driven, self.subject.sections
        seen: set[int] = set()
        before = 0
        for step in steps:
            if not driven.is_subject(step):
                before = 0
                continue
            address = step - driven.bias
            if address not in seen and not (self.registered and section_at(sections, address)):
                route.addresses.append(address)
            seen.add(address)
            left = section_at(sections, before)
            committed = left and before == left.code[-1].address and address == left.start + left.length
            if left and committed and not self.registered:
                route.unprotected.add(left.descriptor)
            before = address
