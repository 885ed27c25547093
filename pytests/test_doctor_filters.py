"""The doctor reads seccomp filters: they are walked through, never run; the strictest one counts."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from rseq_matrix.doctor.seccomp import strictness
from rseq_matrix.documents.doctor import FilterAnswer, SeccompFilters
from rseq_matrix.ptrace import filters
from rseq_matrix.ptrace.filters import FilterInstruction, answer_of, call_data, read_filters, value_of

LOAD_NUMBER, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, KILL, ERRNO, KILL_THREAD = 0x7FFF0000, 0x80000000, 0x00050000, 0


def refusing(value: int) -> list[FilterInstruction]:
    return [
        FilterInstruction(LOAD_NUMBER, 0, 0, 0),
        FilterInstruction(EQUALS, 0, 1, 334),
        FilterInstruction(RETURN, 0, 0, value),
        FilterInstruction(RETURN, 0, 0, ALLOW),
    ]


def test_filters_are_walked_through() -> None:
    data = call_data()
    assert value_of(refusing(ERRNO | 38), data) == ERRNO | 38
    assert answer_of([refusing(ERRNO | 38)], data) == ("errno", 38)
    assert answer_of([refusing(ERRNO | 1), refusing(KILL)], data) == ("kill", None)
    assert answer_of([refusing(ALLOW), refusing(ERRNO)], data) == ("errno", 0)
    assert answer_of([refusing(ERRNO | 1), refusing(KILL_THREAD)], data) == ("kill-thread", None)
    assert answer_of([refusing(KILL_THREAD), refusing(KILL)], data) == ("kill", None)
    assert answer_of([], data) is None
    assert value_of([FilterInstruction(LOAD_NUMBER, 0, 0, 0)], data) is None


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ([(0x04, 3)], 15),  # add
        ([(0x14, 13)], 0xFFFFFFFF),  # subtract
        ([(0x24, 3)], 36),  # multiply
        ([(0x34, 5)], 2),  # divide
        ([(0x44, 1)], 13),  # or
        ([(0x54, 4)], 4),  # and
        ([(0x64, 2)], 48),  # shift left
        ([(0x74, 2)], 3),  # shift right
        ([(0x84, 0)], 0xFFFFFFF4),  # negate
        ([(0xA4, 4)], 8),  # exclusive or
        ([(0x07, 0), (0x0C, 0)], 24),  # to the index; add the index
        ([(0x01, 7), (0x87, 0)], 7),  # load the index; from the index
        ([(0x02, 3), (0x00, 1), (0x60, 3)], 12),  # store, load, load what was stored
        ([(0x07, 0), (0x03, 2), (0x01, 1), (0x61, 2), (0x87, 0)], 12),  # the same with the index
        ([(0x80, 0)], 64),  # the length of struct seccomp_data
        ([(0x05, 1), (0x00, 1)], 12),  # jump over
        ([(0x20, 16 + 24)], 0x53053053),  # the fourth argument
    ],
)
def test_the_instructions_of_a_filter(steps: list[tuple[int, int]], value: int) -> None:
    program = [(0x00, 12), *steps, (0x16, 0)]  # load 12; return what comes out
    assert value_of([FilterInstruction(code, 0, 0, operand) for code, operand in program], call_data()) == value


@pytest.mark.parametrize(
    ("comparison", "operand", "holds"),
    [
        (0x15, 12, 1),
        (0x15, 11, 0),
        (0x25, 12, 0),
        (0x25, 11, 1),
        (0x35, 12, 1),
        (0x35, 13, 0),
        (0x45, 4, 1),
        (0x45, 3, 0),
    ],
)
def test_the_comparisons_of_a_filter(comparison: int, operand: int, holds: int) -> None:
    program = [FilterInstruction(0x00, 0, 0, 12), FilterInstruction(comparison, 0, 1, operand)]
    assert (
        value_of([*program, FilterInstruction(0x06, 0, 0, 1), FilterInstruction(0x06, 0, 0, 0)], call_data()) == holds
    )


def test_a_filter_that_looks_at_an_argument() -> None:
    by_length = [
        FilterInstruction(LOAD_NUMBER, 0, 0, 16 + 8),  # the low half of the second argument
        FilterInstruction(0x54, 0, 0, 0xFF),  # and
        FilterInstruction(0x25, 0, 1, 32),  # greater than
        FilterInstruction(RETURN, 0, 0, KILL),
        FilterInstruction(RETURN, 0, 0, ALLOW),
    ]
    assert value_of(by_length, call_data(length=32)) == ALLOW
    assert value_of(by_length, call_data(length=33)) == KILL


def test_the_strictest_filters_of_the_threads_count() -> None:
    def having(action: str | None) -> SeccompFilters:
        return SeccompFilters(1, rseq=FilterAnswer(action, None) if action else None)

    order = ["kill", "kill-thread", "trap", "errno", "notify", "trace"]
    values = [strictness(having(action)) for action in order]
    assert values == sorted(values, reverse=True)
    assert min(values) > strictness(having("allow")) == strictness(having("log")) == strictness(having(None))


@pytest.mark.parametrize(
    ("error", "why"),
    [(errno.EACCES, "only root"), (errno.EPERM, "only root"), (errno.EIO, "(EIO)"), (errno.ENOENT, "")],
)
def test_why_filters_cannot_be_read(monkeypatch: pytest.MonkeyPatch, error: int, why: str) -> None:
    monkeypatch.setattr(filters, "lib", SimpleNamespace(rsm_trace_filter=lambda *_: error))
    found, unread = read_filters(1)
    assert found == []
    assert (why in unread) if unread else not why
