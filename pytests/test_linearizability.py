"""The checker of histories, against every order there is and against histories made by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rseq_matrix.verify import history
from rseq_matrix.verify.linearizability import (
    EMPTY,
    POP,
    PUSH,
    StackOperation,
    first_impossible,
    linearizable,
    replays,
    smallest,
)


def _push(value: int, begin: int, end: int) -> StackOperation:
    return StackOperation(PUSH, value, begin, end)


def _pop(value: int, begin: int, end: int) -> StackOperation:
    return StackOperation(POP, value, begin, end)


def _keeps_time(order: Sequence[StackOperation]) -> bool:
    return not any(later.end < earlier.begin for i, earlier in enumerate(order) for later in order[i + 1 :])


def _by_force(operations: Sequence[StackOperation]) -> bool:
    """Return whether any order that keeps to the times replays."""
    return any(_keeps_time(order) and replays(order) for order in permutations(operations))


@st.composite
def _histories(draw: st.DrawFn) -> list[StackOperation]:
    """Any begins and ends, and any values popped: most are no stack's history, and many are just not."""
    count = draw(st.integers(1, 6))
    times = draw(st.permutations(range(2 * count)))
    values = iter(range(1, count + 1))
    kinds = [draw(st.booleans()) for _ in range(count)]
    pushes = sum(kinds)
    operations = []
    for index, push in enumerate(kinds):
        begin, end = sorted(times[2 * index : 2 * index + 2])
        value = next(values) if push else draw(st.integers(0, pushes))
        operations.append(StackOperation(PUSH if push else POP, value, begin, end))
    return operations


def _stack_run(draw: st.DrawFn, length: int) -> Iterator[tuple[int, int]]:
    stack: list[int] = []
    for value in range(1, length + 1):
        if draw(st.booleans()):
            stack.append(value)
            yield PUSH, value
        else:
            yield POP, stack.pop() if stack else EMPTY


@st.composite
def _stack_histories(draw: st.DrawFn) -> list[StackOperation]:
    """What a stack showed: each operation takes effect at its own instant, and is seen from before until after that."""
    operations = []
    for instant, (kind, value) in enumerate(_stack_run(draw, draw(st.integers(1, 14)))):
        before, after = draw(st.integers(0, 35)), draw(st.integers(0, 35))
        operations.append((kind, value, instant * 10 - before, instant * 10 + after))
    marks = sorted((t, i, which) for i, (_, _, b, e) in enumerate(operations) for which, t in enumerate((b, e)))
    at = {(i, which): place for place, (_, i, which) in enumerate(sorted(marks, key=lambda m: (m[0], m[2])))}
    return [StackOperation(kind, value, at[i, 0], at[i, 1]) for i, (kind, value, _, _) in enumerate(operations)]


@settings(max_examples=500, deadline=None)
@given(_histories())
def test_agrees_with_trying_every_order(operations: list[StackOperation]) -> None:
    assert linearizable(operations) == _by_force(operations)


@settings(max_examples=200, deadline=None)
@given(_stack_histories())
def test_what_a_stack_showed_is_linearizable(operations: list[StackOperation]) -> None:
    assert first_impossible(operations) is None


def test_every_small_history_without_overlap() -> None:
    """Three operations one after the other, with every kind and value."""
    choices = [(PUSH, 0), (POP, 0), (POP, 1), (POP, 2), (POP, 3)]
    for plan in product(choices, repeat=3):
        operations = [
            StackOperation(kind, place + 1 if kind == PUSH else value, 2 * place, 2 * place + 1)
            for place, (kind, value) in enumerate(plan)
        ]
        assert linearizable(operations) == replays(operations)


GOOD = {
    "nothing": [],
    "last in, first out": [_push(1, 0, 1), _push(2, 2, 3), _pop(2, 4, 5), _pop(1, 6, 7)],
    "pushes at the same time may be in either order": [_push(1, 0, 3), _push(2, 1, 2), _pop(1, 4, 5), _pop(2, 6, 7)],
    "a pop that begins before the push and ends after it": [_pop(1, 0, 3), _push(1, 1, 2)],
    "empty while a push is under way": [_push(1, 0, 3), _pop(EMPTY, 1, 2), _pop(1, 4, 5)],
    "empty between two": [_push(1, 0, 1), _pop(EMPTY, 2, 7), _pop(1, 3, 4), _push(2, 5, 6)],
    "a handler's push inside a push": [_push(1, 0, 3), _push(2, 1, 2), _pop(1, 4, 5), _pop(2, 6, 7)],
    "left in the stack": [_push(1, 0, 1)],
}
BAD = {
    "first in, first out": [_push(1, 0, 1), _push(2, 2, 3), _pop(1, 4, 5), _pop(2, 6, 7)],
    "popped twice": [_push(1, 0, 1), _pop(1, 2, 3), _pop(1, 4, 5)],
    "never pushed": [_pop(9, 0, 1)],
    "popped before it was pushed": [_pop(1, 0, 1), _push(1, 2, 3)],
    "empty while something was there all the time": [_push(1, 0, 1), _pop(EMPTY, 2, 3), _pop(1, 4, 5)],
    "two orders that contradict each other": [
        _push(1, 0, 3),
        _push(2, 1, 2),
        _push(3, 4, 5),
        _pop(3, 6, 7),
        _pop(1, 8, 9),
        _pop(3, 10, 11),
    ],
    "the second, with an unrelated one at the same time": [
        _push(1, 0, 1),
        _push(2, 2, 3),
        _push(3, 4, 9),
        _pop(1, 5, 6),
        _pop(2, 7, 8),
    ],
}


@pytest.mark.parametrize("operations", GOOD.values(), ids=GOOD)
def test_good(operations: list[StackOperation]) -> None:
    assert linearizable(operations)


@pytest.mark.parametrize("operations", BAD.values(), ids=BAD)
def test_bad(operations: list[StackOperation]) -> None:
    assert not linearizable(operations)
    assert not linearizable(smallest(operations))


def test_the_smallest_is_what_matters() -> None:
    noise = [op for v in range(10, 20) for op in (_push(v, 10 * v, 10 * v + 1), _pop(v, 10 * v + 2, 10 * v + 3))]
    story = [_push(1, 0, 1), _push(2, 2, 3), _pop(1, 300, 301), _pop(2, 302, 303)]
    assert smallest([*noise, *story]) == story


# --- the records of a run


def _records(*rows: tuple[int, int, int, int, int, int]) -> history.Records:
    """Make records of kind, value, begin, end, stack, known; all in round 0, each by a thread of its own."""
    records = np.zeros(len(rows), history.RECORD)
    for place, name in enumerate(("kind", "value", "begin", "end", "stack", "known")):
        records[name] = [row[place] for row in rows]
    return records


def test_each_stack_is_judged_alone() -> None:
    """In one stack this would be first in, first out; in two it is fine."""
    both = [(PUSH, 1, 0, 1, 0, 1), (PUSH, 2, 2, 3, 1, 1), (POP, 1, 4, 5, 0, 1), (POP, 2, 6, 7, 1, 1)]
    assert not history.judge(_records(*both), True).bad
    one = [(*row[:4], 0, 1) for row in both]
    found = history.judge(_records(*one), True)
    assert len(found.bad) == 1
    assert "the stack of CPU 0" in str(found.bad[0])


def test_a_pop_that_finds_nothing_speaks_of_the_shared_stack_alone() -> None:
    rows = [(PUSH, 1, 0, 1, 0, 1), (POP, EMPTY, 2, 3, 0, 1), (POP, 1, 4, 5, 0, 1)]
    assert not history.judge(_records(*rows), True).bad
    shared = [(PUSH, 1, 0, 1, -1, 1), (POP, EMPTY, 2, 3, 0, 1), (POP, 1, 4, 5, -1, 1)]
    assert history.judge(_records(*shared), True).bad


def test_a_stack_that_a_handler_hides_is_told_by_the_other_end() -> None:
    rows = [(PUSH, 1, 0, 1, 7, 0), (PUSH, 2, 2, 3, 1, 1), (POP, 1, 4, 5, 1, 1), (POP, 2, 6, 7, 9, 0)]
    found = history.judge(_records(*rows), True)
    assert len(found.bad) == 1
    assert found.unplaced == 0
    hidden = [(PUSH, 1, 0, 1, 7, 0), (PUSH, 2, 2, 3, 1, 1), (POP, 1, 4, 5, 1, 0), (POP, 2, 6, 7, 9, 0)]
    found = history.judge(_records(*hidden), True)
    assert not found.bad
    assert found.unplaced == 1


def test_popped_from_another_stack_than_it_was_pushed_to() -> None:
    found = history.judge(_records((PUSH, 1, 0, 1, 0, 1), (POP, 1, 2, 3, 1, 1)), True)
    assert [bad.stack for bad in found.bad] == [1]


@pytest.mark.parametrize(
    ("rows", "lost", "doubled"),
    [
        ([(PUSH, 1, 0, 1, -1, 1)], 1, 0),
        ([(PUSH, 1, 0, 1, -1, 1), (POP, 1, 2, 3, -1, 1), (POP, 1, 4, 5, -1, 1)], 0, 1),
        ([(POP, history.NOBODYS, 2, 3, -1, 1)], 0, 1),
        ([(PUSH, 1, 0, 1, -1, 1), (POP, 1, 2, 3, -1, 1), (POP, EMPTY, 4, 5, -1, 1)], 0, 0),
    ],
)
def test_conservation(rows: list[tuple[int, int, int, int, int, int]], lost: int, doubled: int) -> None:
    found = history.conservation(_records(*rows))
    assert (found.lost, found.doubled) == (lost, doubled)
    assert bool(found.example) == bool(lost or doubled)


def test_a_value_of_another_round_is_nobodys() -> None:
    records = _records((PUSH, 1, 0, 1, -1, 1), (POP, 1, 2, 3, -1, 1))
    records["round"][1] = 1
    found = history.conservation(records)
    assert (found.lost, found.doubled) == (1, 1)
