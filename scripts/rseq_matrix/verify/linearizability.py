"""Decides whether what threads saw of a stack is what a stack can show: linearizability (Herlihy and Wing 1990).

The specification of a subject's pushes and pops:

- Each stack, a CPU's or the shared one, is by itself linearizable as a stack: every operation takes effect at one
  instant between its begin and its end, and in the order of these instants a pop takes what was pushed last and not
  popped since. It is enough to ask that of each stack alone: a system of linearizable objects is linearizable
  (locality, ibid. section 3.1), and the subject says which stack an operation used (rsm_subject_stack()).
- The pool as a whole conserves nodes: what was popped had been pushed, nothing is popped twice, and when all is
  drained nothing is missing.
- A pop that finds nothing says no more than that the *shared* stack was empty at an instant. It looked at its CPU's
  stack at another instant, and may have been moved to another CPU in between, so that it does not say that two stacks
  were empty at the same time, nor which CPU's.

An operation in a signal handler lies within the one that it interrupted. Their intervals overlap, and that is all.

The checker goes through the begins and ends in time (Wing and Gong 1993, with Lowe's just-in-time order, 2017): it
keeps every state that the stack can be in, as a set, so that states that come together are looked at once. An operation
is made to take effect only when one has to: at the latest when it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

PUSH, POP = 1, 2
EMPTY = 0
"""As the value of a pop: it found nothing."""

Stack = tuple[int, "Stack"] | None
State = tuple[Stack, frozenset[int]]


@dataclass(frozen=True)
class StackOperation:
    """One push or pop of one stack."""

    kind: int
    value: int
    """No two pushes have the same."""
    begin: int
    end: int
    source: str = ""
    """Which thread did it, for sentences."""

    def __str__(self) -> str:
        what = "push" if self.kind == PUSH else "pop"
        shown = "nothing" if self.value == EMPTY else f"{self.value:#x}"
        return f"{self.source or '?'} {what} {shown} [{self.begin}, {self.end}]"


def _apply(operation: StackOperation, stack: Stack) -> tuple[bool, Stack]:
    """Let an operation take effect; False if it cannot have done so in this state."""
    if operation.kind == PUSH:
        return True, (operation.value, stack)
    if operation.value == EMPTY:
        return stack is None, stack
    if stack is None or stack[0] != operation.value:
        return False, stack
    return True, stack[1]


def _until_done(
    history: Sequence[StackOperation], index: int, pending: Iterable[int], states: set[State]
) -> set[State]:
    """Return the states in which an operation that ends now has taken effect, whatever else has that has begun."""
    found: set[State] = set()
    seen = set(states)
    todo = list(states)
    while todo:
        stack, done = todo.pop()
        if index in done:
            found.add((stack, done - {index}))
            continue
        for other in pending:
            if other in done:
                continue
            possible, after = _apply(history[other], stack)
            state = (after, done | {other})
            if possible and state not in seen:
                seen.add(state)
                todo.append(state)
    return found


def first_impossible(history: Sequence[StackOperation]) -> int | None:
    """Return the index of the first operation that cannot have ended as it did; None if the history is a stack's."""
    events = sorted([(op.begin, index, False) for index, op in enumerate(history)] + _ends(history))
    states: set[State] = {(None, frozenset())}
    pending: set[int] = set()
    for _, index, ends in events:
        if not ends:
            pending.add(index)
            continue
        states = _until_done(history, index, pending, states)
        if not states:
            return index
        pending.remove(index)
    return None


def _ends(history: Sequence[StackOperation]) -> list[tuple[int, int, bool]]:
    return [(op.end, index, True) for index, op in enumerate(history)]


def linearizable(history: Sequence[StackOperation]) -> bool:
    """Return whether a complete history of one stack, empty at first, is linearizable as a stack.

    Begins and ends are distinct numbers of one clock.
    """
    return replays(sorted(history, key=lambda op: op.end)) or first_impossible(history) is None


def replays(order: Iterable[StackOperation]) -> bool:
    """Return whether a stack shows just this, one operation after the other.

    An order by ends is one that may be: no operation begins after one that it precedes has ended. So if it replays, the
    history is linearizable, and most are recognised by that alone.
    """
    stack: Stack = None
    for operation in order:
        possible, stack = _apply(operation, stack)
        if not possible:
            return False
    return True


def _without_pairs(history: Sequence[StackOperation]) -> Iterator[list[StackOperation]]:
    for value in dict.fromkeys(op.value for op in history):
        if value != EMPTY:
            yield [op for op in history if op.value != value]
    for operation in history:
        if operation.value == EMPTY:
            yield [op for op in history if op is not operation]


def smallest(history: Sequence[StackOperation]) -> list[StackOperation]:
    """Return as little of a history that is not linearizable as still is not.

    What is left out is a value's push and pop together, or a pop that found nothing: a stack's history stays one
    without them.
    """
    bad = list(history)
    smaller: list[StackOperation] | None = bad
    while smaller is not None:
        bad = smaller
        smaller = next((some for some in _without_pairs(bad) if first_impossible(some) is not None), None)
    return sorted(bad, key=lambda op: op.begin)
