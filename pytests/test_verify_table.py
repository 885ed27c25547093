"""The decision table of verify: every row is needed, and every case is taken by one. No subject is run here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from string import Formatter

import pytest

from rseq_matrix.build import Build
from rseq_matrix.documents.verify import DEFECTS
from rseq_matrix.elf.facts import Section, SectionInstruction
from rseq_matrix.model.results import ERROR, PASS
from rseq_matrix.verify.cases import SteppedCase, TrialCase, TrialGroup
from rseq_matrix.verify.decision_table import (
    INTERRUPTED,
    MANY_ABORTS,
    NOT_INTERRUPTED,
    SET_ASIDE,
    STEPPED,
    DecisionRow,
    decide,
    decide_stepped,
)
from rseq_matrix.verify.driven import HANDLER, HELPER, OPERATOR, UNREGISTERED_HELPER, UNREGISTERED_OPERATOR
from rseq_matrix.verify.effects import Effect
from rseq_matrix.verify.step_judgement import judge_stepped
from rseq_matrix.verify.subject import opened
from rseq_matrix.verify.trial_judgement import judge_section
from rseq_matrix.verify.trials import MIGRATION, PREEMPTION, SIGNAL, InterruptionPoint, InterruptionTrial

FIRST, SECOND = 0x1000, 0x1001


def section(start: int) -> Section:
    """Return a section of two instructions of one byte."""
    code = tuple(SectionInstruction(start + at, "90", "nop") for at in range(2))
    return Section(start + 0x100, 0, 0, start, 2, start + 0x50, "add", True, True, True, "", 0, (), code)


HERE, OTHER = section(FIRST), section(0x2000)


def trial(
    kind: str,
    operator: int | None = 1,
    others: dict[int, int] | None = None,
    *,
    at: int = FIRST,
    inside: bool = False,
    after: Section | None = None,
    role: int = OPERATOR,
    happened: bool = True,
    stuck: bool = False,
    crash: str = "",
) -> InterruptionTrial:
    """Return a trial; `operator` is how often the operation took effect that was interrupted, None: not known."""
    point = InterruptionPoint("add", role, HERE if inside else None, at, after)
    effect = None if operator is None else Effect(operator, others or {})
    return InterruptionTrial(point, kind, happened, effect, stuck, crash)


RIGHT = trial(PREEMPTION, 1, {HELPER: 1})
RIGHT_INSIDE = trial(MIGRATION, 1, {HELPER: 1}, inside=True)


def outside(*trials: InterruptionTrial, sections: bool = True, names: Sequence[str] = ()) -> TrialGroup:
    return TrialGroup(trials, None, sections, (OTHER,), frozenset(names))


def inside(*trials: InterruptionTrial) -> TrialGroup:
    return TrialGroup(trials, HERE, True, (OTHER,))


INTERRUPTED_CASES: dict[str, tuple[TrialGroup, list[tuple[str, int, int]]]] = {
    "all is right": (outside(RIGHT), [(PASS, 1, 1)]),
    "it did not happen": (outside(trial(SIGNAL, happened=False)), [(NOT_INTERRUPTED, 1, 0)]),
    "it did not happen and went wrong": (
        outside(RIGHT, trial(PREEMPTION, 0, happened=False)),
        [(PASS, 1, 1), ("fallback-not-atomic", 1, 1)],
    ),
    "after the abort of a section that has a defect": (
        outside(RIGHT, trial(SIGNAL, 2, after=OTHER)),
        [(SET_ASIDE, 1, 1), (PASS, 1, 1)],
    ),
    "a right one after such an abort": (outside(trial(SIGNAL, 1, after=OTHER)), [(SET_ASIDE, 1, 0)]),
    "a crash after such an abort": (inside(trial(SIGNAL, None, crash="SIGILL", after=OTHER)), [(SET_ASIDE, 1, 0)]),
    "a section's defect explains it": (
        outside(trial(PREEMPTION, 1, {HELPER: 2}), names=["early-commit"]),
        [(SET_ASIDE, 1, 0)],
    ),
    "a section's defect does not explain it": (
        outside(trial(PREEMPTION, 1, {HELPER: 2}), names=["not-retried"]),
        [("doubled", 1, 1)],
    ),
    "it crashed": (outside(RIGHT, trial(PREEMPTION, None, crash="SIGILL")), [(PASS, 1, 2), ("crash", 1, 2)]),
    "the handler waits": (
        outside(RIGHT, trial(SIGNAL, None, stuck=True)),
        [(PASS, 1, 2), ("not-reentrant", 1, 2)],
    ),
    "it hangs whatever interrupts": (
        outside(trial(SIGNAL, None, stuck=True), trial(PREEMPTION, None, stuck=True)),
        [("hang", 2, 2)],
    ),
    "the handler alone interferes": (
        outside(RIGHT, trial(SIGNAL, 0, {HANDLER: 1})),
        [(PASS, 1, 2), ("not-reentrant", 1, 2)],
    ),
    "the handler alone interferes with a section": (
        inside(RIGHT_INSIDE, trial(SIGNAL, 0, {HANDLER: 1}, inside=True)),
        [(PASS, 1, 2), ("not-reentrant", 1, 2)],
    ),
    "no other kind was tried": (inside(trial(SIGNAL, 0, {HANDLER: 1}, inside=True)), [("not-retried", 1, 1)]),
    "the section loses": (
        inside(RIGHT_INSIDE, trial(PREEMPTION, 0, {HELPER: 1}, inside=True)),
        [(PASS, 1, 2), ("not-retried", 1, 2)],
    ),
    "the section doubles at its first instruction": (
        inside(*(trial(PREEMPTION, 2, inside=True, at=at) for at in (FIRST, SECOND))),
        [("doubled-after-abort", 2, 2)],
    ),
    "the section doubles later": (
        inside(RIGHT_INSIDE, trial(PREEMPTION, 2, inside=True, at=SECOND)),
        [(PASS, 1, 2), ("early-commit", 1, 2)],
    ),
    "the helper was aborted in a section that loses": (
        inside(trial(PREEMPTION, 0, {HELPER: 1}, inside=True), trial(MIGRATION, 1, {HELPER: 0}, inside=True)),
        [("not-retried", 1, 2), (SET_ASIDE, 1, 1)],
    ),
    "the helper loses in a section": (
        inside(RIGHT_INSIDE, trial(PREEMPTION, 1, {HELPER: 0}, inside=True)),
        [(PASS, 1, 2), ("lost", 1, 2)],
    ),
    "the helper doubles in a section": (
        inside(RIGHT_INSIDE, trial(PREEMPTION, 1, {HELPER: 2}, inside=True)),
        [(PASS, 1, 2), ("doubled", 1, 2)],
    ),
    "helpers lose and double in a section": (
        inside(trial(PREEMPTION, 1, {HELPER: 0}, inside=True), trial(MIGRATION, 1, {HELPER: 2}, inside=True)),
        [("lost", 2, 2)],
    ),
    "the fallback loses": (outside(trial(PREEMPTION, 0, role=UNREGISTERED_OPERATOR)), [("fallback-not-atomic", 1, 1)]),
    "without sections it loses": (outside(trial(PREEMPTION, 0), sections=False), [("not-atomic", 1, 1)]),
    "outside it doubles": (outside(trial(PREEMPTION, 0, {HELPER: 2}), sections=False), [("doubled", 1, 1)]),
    "outside it loses here and doubles there": (
        outside(trial(PREEMPTION, 0), trial(MIGRATION, 2), sections=False),
        [("not-atomic", 1, 2), ("doubled", 1, 2)],
    ),
}
"""Trials that are judged together, and the results: how many trials, of how many."""

STEPPED_CASES: dict[str, tuple[SteppedCase, str]] = {
    "right": (SteppedCase(), PASS),
    "right after aborts": (SteppedCase(aborts=16), PASS),
    "crashed": (SteppedCase(crash="SIGILL", ended=False), "crash"),
    "stuck": (SteppedCase(stuck=True), "hang"),
    "stuck after a livelock": (SteppedCase(stuck=True, known=True), SET_ASIDE),
    "commits without an area": (SteppedCase(unprotected=True), "unprotected-fast-path"),
    "aborted again and again": (SteppedCase(ended=False, limit_reached=True, aborts=100), "livelock"),
    "aborted many times in the time there was": (SteppedCase(ended=False, aborts=MANY_ABORTS), "livelock"),
    "out of time": (SteppedCase(ended=False, aborts=3), ERROR),
    "never aborted": (SteppedCase(ended=False, limit_reached=True), "hang"),
    "given up after aborts": (SteppedCase(aborts=1, effects=0), "not-retried"),
    "lost": (SteppedCase(effects=0), "lost"),
    "counted again after aborts": (SteppedCase(aborts=1, effects=2), "doubled-after-abort"),
    "doubled": (SteppedCase(effects=2), "doubled"),
}


def results(group: TrialGroup, rows: Sequence[DecisionRow[TrialCase]] = INTERRUPTED) -> list[tuple[str, int, int]]:
    return [(one.row.result, len(one.trials), one.happened) for one in decide(group, rows)]


@pytest.mark.parametrize("name", INTERRUPTED_CASES)
def test_interrupted(name: str) -> None:
    group, wanted = INTERRUPTED_CASES[name]
    assert results(group) == wanted


@pytest.mark.parametrize("name", STEPPED_CASES)
def test_stepped(name: str) -> None:
    case, wanted = STEPPED_CASES[name]
    assert decide_stepped(case).result == wanted


def interrupted_without(row: str) -> list[str]:
    """Return the cases whose result is another without the row."""
    rows = [one for one in INTERRUPTED if one.id != row]
    wrong = []
    for name, (group, wanted) in INTERRUPTED_CASES.items():
        try:
            same = results(group, rows) == wanted
        except LookupError:
            same = False
        wrong += [] if same else [name]
    return wrong


def stepped_without(row: str) -> list[str]:
    """Return the cases whose result is another without the row."""
    rows = [one for one in STEPPED if one.id != row]
    wrong = []
    for name, (case, wanted) in STEPPED_CASES.items():
        try:
            same = decide_stepped(case, rows).result == wanted
        except LookupError:
            same = False
        wrong += [] if same else [name]
    return wrong


@pytest.mark.parametrize("row", [row.id for row in INTERRUPTED])
def test_no_row_for_interrupted_operations_can_be_left_out(row: str) -> None:
    assert interrupted_without(row)


@pytest.mark.parametrize("row", [row.id for row in STEPPED])
def test_no_row_for_stepped_operations_can_be_left_out(row: str) -> None:
    assert stepped_without(row)


def test_a_row_that_is_not_there_changes_nothing() -> None:
    """The two functions above can say that a row is not needed."""
    assert interrupted_without("no such row") == stepped_without("no such row") == []


WORDS = {"at", "place", "kind", "operation", "crash", "got", "store", "section", "steps", "times", "seconds", "aborts"}
"""What the sentences of the rows name."""

EFFECTS = (
    {"operator": None, "stuck": True},
    {"operator": None, "crash": "SIGILL"},
    *({"operator": times, "others": {other: by}} for times, by in product(range(4), repeat=2) for other in (HELPER,)),
    {"operator": 1, "others": {UNREGISTERED_HELPER: 0}},
    {"operator": 1, "others": {HANDLER: 2}},
)


def test_every_combination_of_trials_is_taken() -> None:
    """Each trial by itself, and each beside a right one of another kind."""
    for effect, kind, happened, within, after, sections in product(
        EFFECTS, (SIGNAL, PREEMPTION), (True, False), (True, False), (None, OTHER), (True, False)
    ):
        one = trial(kind, inside=within, happened=happened, after=after, **effect)  # type: ignore[arg-type]
        beside = RIGHT_INSIDE if within else RIGHT
        for trials in ((one,), (one, beside)):
            group = TrialGroup(trials, HERE if within else None, sections or within, (OTHER,))
            assert sum(count for _, count, _ in results(group)) == len(trials)


def test_every_combination_of_stepped_facts_is_taken() -> None:
    for stuck, known, unprotected, ended, limit in product((True, False), repeat=5):
        for crash, aborts, effects in product(("", "SIGILL"), (0, 1, MANY_ABORTS), range(3)):
            case = SteppedCase(str(crash), stuck, known, unprotected, ended, limit, int(aborts), int(effects))
            assert decide_stepped(case).id


def test_rows_are_named_once_and_tell_why() -> None:
    told = [(row.id, row.because, row.reference, row.result) for row in INTERRUPTED]
    told += [(row.id, row.because, row.reference, row.result) for row in STEPPED]
    assert len({name for name, *_ in told}) == len(told)
    for _, because, reference, result in told:
        assert because
        assert reference
        assert result in {*DEFECTS, PASS, ERROR, SET_ASIDE, NOT_INTERRUPTED}
        assert {name for _, name, _, _ in Formatter().parse(because) if name} <= WORDS


def test_a_sentence_names_the_instruction_and_counts_the_trials(built: Build) -> None:
    with opened(built.directory / "subjects" / "split.so") as subject:
        section = subject.sections[0]
        last = section.code[-1].address
        point = InterruptionPoint("add", OPERATOR, section, last)
        trials = [InterruptionTrial(point, MIGRATION, True, Effect(0, {HELPER: 1})), RIGHT_INSIDE]
        (defect,) = judge_section(subject, section, trials, ())
    assert defect.name == "not-retried"
    assert defect.where.startswith(f"the critical section at +{section.start:#x} in ")
    assert f"instruction +{last:#x} `{section.code[-1].text}`: interrupted there by a migration" in defect.sentence
    assert defect.sentence.endswith("it is neither retried nor done by the fallback (1 of 2 trials)")


def test_a_stepped_operation_is_named_with_its_aborts() -> None:
    row, sentence = judge_stepped(SteppedCase(aborts=16, effects=0), operation="add, stepped in gdb,")
    assert (row.result, sentence) == (
        "not-retried",
        "add, stepped in gdb, took no effect after 16 aborts; expected is one",
    )
