"""Follows a piece of code: its steps, and what the registers hold at each of them.

The code is executed from top to bottom. Where ways join, only what all of them agree on is known. A backward branch
joins code that has been executed already: if it does not agree with what was known there, the code is executed again
from there on, until nothing changes. So no value of a loop's first round is taken for that of all rounds.

Code behind the end of a path, that no branch leads to, is reached in some way that is not seen (a table of branches, an
exception): nothing is known where it starts. Code that a branch leads to, too, is not reached before that branch is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rseq_matrix.elf.machines.execution import CodeStep, Flow, Registers

ENDS = frozenset({Flow.JUMP, Flow.RETURN, Flow.TRAP})
ROUNDS = 12  # then nothing is known any more where backward branches lead


class Walk:
    """The steps of a piece of code.

    `instructions` yields those from an address on, or an address where there is none; `execute` makes a step of one.
    `initial` is what registers hold where nothing says how the code is reached. The steps go up to where the path ends
    if the end of the code is not certain (not `to_end`), and there are at most `limit`.
    """

    def __init__(
        self,
        code: range,
        initial: Registers,
        instructions: Callable[[int], Iterator[Any]],
        execute: Callable[[Any, Registers], CodeStep],
        to_end: bool = True,
        limit: int | None = None,
    ) -> None:
        """Follow the code."""
        self.steps: list[CodeStep] = []
        self._code, self._initial, self._to_end, self._limit = code, initial, to_end, limit
        self._instructions, self._execute = instructions, execute
        self._starts: dict[
            int, Registers | None
        ] = {}  # by index, where the step before does not say it; None: unreached
        self._index: dict[int, int] = {}  # of each step, by address
        self._edges: dict[
            int, dict[int, Registers]
        ] = {}  # what registers hold at branches, by their target and address
        self._unseen: set[int] = set()  # where nothing says how the code is reached
        self._roots: set[int] = set()  # the same in spite of a branch, which only that code leads to
        self._heads: set[int] = set()  # where backward branches lead
        self._again: set[int] = set()  # those of them where one has changed what is known
        self._furthest = 0  # where a branch leads
        self._given_up = False
        self._run()

    def states(self) -> Iterator[tuple[CodeStep, Registers]]:
        """Yield each step with what the registers hold behind it (which the next step changes)."""
        registers: Registers = {}
        for index, step in enumerate(self.steps):
            if index in self._starts:
                registers = dict(self._starts[index] or self._initial)
            step.apply(registers)
            yield step, registers

    def _run(self) -> None:
        self._follow(self._code.start, dict(self._initial))
        for _ in range(ROUNDS):
            at = self._changed()
            if at is None:
                return
            index = self._index[at]
            state = None if at in self._unseen else self._before(index)
            self._cut(index)
            self._follow(at, state)
        self._given_up = True
        self._edges.clear()
        self._cut(0)
        self._follow(self._code.start, dict(self._initial))

    def _changed(self) -> int | None:
        """Return where to execute again from: where something has changed, or else what is not reached in the end."""
        if self._again:
            first = min(self._again)
            wrong = min(self._again & self._unseen, default=self._code.stop)
            for edges in self._edges.values():  # what followed from that is not so
                for source in [source for source in edges if source >= wrong]:
                    del edges[source]
            self._again.clear()
            return first
        unreached = next((index for index, state in sorted(self._starts.items()) if state is None), None)
        if unreached is None:
            return None
        self._roots.add(self.steps[unreached].address)
        return self.steps[unreached].address

    def _cut(self, index: int) -> None:
        """Forget the steps from one on."""
        for place, step in enumerate(self.steps[index:], index):
            del self._index[step.address]
            self._starts.pop(place, None)
            self._unseen.discard(step.address)
        del self.steps[index:]

    def _before(self, index: int) -> Registers | None:
        """Return what the registers hold before a step; None if it is not reached."""
        start = index
        while start not in self._starts:
            start -= 1
        state = self._starts[start]
        if state is None:
            return None
        registers = dict(state)
        for step in self.steps[start:index]:
            step.apply(registers)
        return registers

    # --- one round

    def _follow(self, at: int, above: Registers | None) -> None:
        """Execute from an address on; `above` is what the way from above leaves in the registers, None without one."""
        path = False  # whether the way from above is the step before
        for insn in self._instructions(at):
            if isinstance(insn, int):
                above, path = None, False
                continue
            registers = self._arriving(insn.address, above, path)
            if registers is not above or not path:
                self._starts[len(self.steps)] = dict(registers) if registers is not None else None
            step = self._execute(insn, registers if registers is not None else dict(self._initial))
            self._index[step.address] = len(self.steps)
            self.steps.append(step)
            if registers is not None:
                step.apply(registers)
            if step.target is not None and step.flow in (Flow.BRANCH, Flow.JUMP):
                self._branch(step, step.target, registers)
            above, path = (None, False) if step.flow in ENDS else (registers, True)
            if len(self.steps) == self._limit or not (path or self._to_end or step.end <= self._furthest):
                return

    def _arriving(self, address: int, above: Registers | None, path: bool) -> Registers | None:
        """Return what the registers hold at an address on all ways that lead there, None if there is none yet."""
        if address in self._roots or (self._given_up and address in self._heads):
            return dict(self._initial)
        edges = self._edges.get(address)
        if edges:
            return _meet([above, *edges.values()] if above is not None else edges.values())
        if above is None and not path and edges is None:
            self._unseen.add(address)
            return dict(self._initial)
        return above

    def _branch(self, step: CodeStep, target: int, registers: Registers | None) -> None:
        """Note what the registers hold where a branch leads; None where it is not reached."""
        if target > step.address:
            if target < self._code.stop:
                self._furthest = max(self._furthest, target)
        elif target not in self._index or self._given_up:
            return  # out of the code
        else:
            self._heads.add(target)
            if target in self._unseen - self._roots or self._differs(self._index[target], registers):
                self._again.add(target)
        edges = self._edges.setdefault(target, {})
        if registers is not None:
            edges[step.address] = dict(registers)
        else:
            edges.pop(step.address, None)

    def _differs(self, index: int, registers: Registers | None) -> bool:
        """Return whether not all that was known before a step is so with these registers, too."""
        if registers is None:
            return False
        before = self._before(index)
        return before is None or any(registers.get(number) != value for number, value in before.items())


def _meet(ways: Iterable[Registers]) -> Registers:
    first, *others = ways
    return {n: value for n, value in first.items() if all(other.get(n) == value for other in others)}
