"""Follows a piece of code: its steps, and what the registers hold at each of them.

The code is executed from top to bottom. Where ways join, only what all of them agree on is known. A backward branch
joins code that has been executed already: if it does not agree with what was known there, the code is executed again
from there on, until nothing changes. So no value of a loop's first round is taken for that of all rounds.

Code behind the end of a path, that no branch leads to, is reached in a way that is not seen: by one of the indirect
jumps in the code, where there are any (a table of branches); else nothing is known where it starts. Code that a branch
leads to is not reached before that branch is, and padding is not reached at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rseq_matrix.elf.machines.execution import ZERO, CodeStep, Flow, Registers

ENDS = (Flow.JUMP, Flow.RETURN, Flow.TRAP)
NO_START: Registers = {-2: ZERO}
ROUNDS = 12  # then nothing is known any more where backward branches lead


class CodeWalk:
    """The steps of a piece of code.

    `instructions` yields those from an address on, or an address where there is none; `execute` makes a step of one;
    `is_padding` tells those that are for nothing. `initial` is what registers hold where nothing says how the code is
    reached, and `heads` are such places. The steps go up to where the path ends if the end of the code is not certain
    (not `to_end`), and there are at most `limit`.
    """

    def __init__(
        self,
        code: range,
        initial: Registers,
        instructions: Callable[[int], Iterator[Any]],
        execute: Callable[[Any, Registers], CodeStep],
        is_padding: Callable[[Any], bool],
        heads: frozenset[int] = frozenset(),
        to_end: bool = True,
        limit: int | None = None,
    ) -> None:
        """Follow the code."""
        self.steps: list[CodeStep] = []
        self._code, self._initial, self._to_end, self._limit = code, initial, to_end, limit
        self._instructions, self._execute, self._is_padding = instructions, execute, is_padding
        # What registers hold: by index, where the step before does not say it (None: not reached); and at branches, by
        # their target and address.
        self._starts: dict[int, Registers | None] = {}
        self._edges: dict[int, dict[int, Registers]] = {head: {} for head in heads}
        self._index: dict[int, int] = {}  # of each step, by address
        self._unseen: set[int] = set()  # where nothing says how the code is reached
        self._roots = set(heads)  # the same in spite of a branch, which only that code leads to
        self._heads: set[int] = set()  # where backward branches lead
        self._gaps: set[int] = set()  # the steps, by index, before which there is something else than code
        self._padding: set[int] = set()  # the steps, by index, that are padding
        self._jumps: dict[int, Registers] = {}  # what registers hold at indirect jumps
        self._wrong: set[int] = set()  # members of `unseen` that a branch leads to
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
        self._read()
        for _ in range(ROUNDS):
            first = self._changed()
            if first is None:
                return
            self._follow(first)
        self._given_up = True
        self._edges = {address: {} for address in self._heads}
        self._jumps.clear()
        self._follow(0)

    def _changed(self) -> int | None:
        """Return the step to follow again from: where something has changed, or else what is not reached in the end."""
        if self._again:
            wrong = min(self._wrong, default=self._code.stop)
            for edges in self._edges.values():  # what followed from that is not so
                for source in [source for source in edges if source >= wrong]:
                    del edges[source]
            first = min(self._again)
            self._again.clear()
            self._wrong.clear()
            return self._index[first]
        states = self._starts.items()
        unreached = min((n for n, state in states if state is None and n not in self._padding), default=None)
        if unreached is not None:
            self._roots.add(self.steps[unreached].address)
        return unreached

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

    def _read(self) -> None:
        """Follow the code for the first time."""
        self._starts[0] = dict(self._initial)
        above = self._before(0)  # what the step before leaves in the registers; None where it does not come here
        for insn in self._instructions(self._code.start):
            if isinstance(insn, int):
                above = None
                self._gaps.add(len(self.steps))
                continue
            index, address = len(self.steps), insn.address
            joins = above is None or address in self._edges
            registers = self._enter(index, insn, above) if joins else above
            step = self._execute(insn, self._initial if registers is None else registers)
            self._index[address] = index
            self.steps.append(step)
            above = self._leave(step, registers)
            at_end = step.flow in ENDS and not self._to_end and self._furthest < step.end
            if at_end or index + 1 == self._limit:
                return

    def _follow(self, first: int) -> None:
        """Follow the code from a step on again. Where registers hold the same as the last time, steps are the same."""
        self._unseen = {address for address in self._unseen if self._index[address] < first}
        above = self._before(first)
        same = False
        for index, step in enumerate(self.steps[first:], first):
            if index in self._gaps:
                above = None
            before = self._starts.get(index, NO_START)
            registers = self._enter(index, step.insn, above) if above is None or step.address in self._edges else above
            now = self._starts.get(index, NO_START)
            if before is not NO_START or now is not NO_START:
                same = before == now
            if not same:
                self.steps[index] = self._execute(step.insn, self._initial if registers is None else registers)
            above = self._leave(self.steps[index], registers)

    def _enter(self, index: int, insn: Any, above: Registers | None) -> Registers | None:
        """Return what the registers hold before a step on all ways that lead there, None if there is none yet."""
        address = insn.address
        edges = self._edges.get(address)
        starts = index > 0 and self._is_start(index, above)
        registers = above = None if starts else above
        if address in self._roots or (self._given_up and address in self._heads):
            registers = dict(self._initial)
        elif edges:
            registers = _meet([above, *edges.values()] if above is not None else edges.values())
        elif starts and edges is None:
            registers = self._enter_unseen(index, insn)
        if starts or not index or registers is not above:
            self._starts[index] = None if registers is None else dict(registers)
        elif index in self._starts:
            del self._starts[index]
        return registers

    def _is_start(self, index: int, above: Registers | None) -> bool:
        """Return whether there is no way from the step before."""
        padding = above is None and index - 1 in self._padding
        return padding or index in self._gaps or self.steps[index - 1].flow in ENDS

    def _enter_unseen(self, index: int, insn: Any) -> Registers | None:
        if self._is_padding(insn):
            self._padding.add(index)
            return None
        self._unseen.add(insn.address)
        return _meet(self._jumps.values()) if self._jumps else dict(self._initial)

    def _leave(self, step: CodeStep, registers: Registers | None) -> Registers | None:
        """Return what the registers hold behind a step; what they hold where it branches is noted."""
        if registers is not None:
            step.apply(registers)
        if step.flow is Flow.BRANCH or step.flow is Flow.JUMP:
            if step.target is not None:
                self._branch(step, step.target, registers)
            elif step.flow is Flow.JUMP and registers is not None:
                self._jumps[step.address] = dict(registers)
                self._again |= {at for at in self._unseen if self._differs(self._index[at], registers)}
        return None if step.flow in ENDS else registers

    def _branch(self, step: CodeStep, target: int, registers: Registers | None) -> None:
        if target > step.address:
            if target < self._code.stop:
                self._furthest = max(self._furthest, target)
        elif target not in self._index or self._given_up:
            return  # out of the code
        else:
            self._heads.add(target)
            if target in self._unseen - self._roots:
                self._wrong.add(target)
            if target in self._wrong or self._differs(self._index[target], registers):
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
