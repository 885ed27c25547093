"""The judgement on the sums of the phase "stress". It runs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from rseq_matrix.documents.verify import Defect
from rseq_matrix.documents.verify_phases import StressWriter
from rseq_matrix.elf.facts import Section
from rseq_matrix.signals import signal_name
from rseq_matrix.verify.stress_modes import PHASE, TUNABLE_OFF, Mode, StressReport
from rseq_matrix.verify.subject import Subject

FIRST_OF_KINDS, FIRST_OF_WRITERS, COLLISION_COUNTER = 16, 64, 9
"""Numbers of counters: csrc/verify/stress/stress.h."""


def _joined(defects: list[Defect]) -> Defect:
    """Make one of those that have the same name."""
    first = defects[0]
    modes = list(dict.fromkeys(defect.where for defect in defects))
    others = f"; and in mode {', '.join(modes[1:])}" if len(modes) > 1 else ""
    return replace(first, where=", ".join(modes), sentence=first.sentence + others)


def _defect(name: str, mode: Mode, sentence: str) -> Defect:
    return Defect(name, PHASE, mode.name, f"mode {mode.name}: {sentence}")


def _writer(report: StressReport, counter: int) -> str:
    """Return which writer alone used a counter; empty if all did."""
    kinds = list(dict.fromkeys(writer.kind for writer in report.writers))
    if counter >= FIRST_OF_WRITERS and counter - FIRST_OF_WRITERS < len(report.writers):
        return f", used by one {report.writers[counter - FIRST_OF_WRITERS].kind} alone"
    if FIRST_OF_KINDS <= counter < FIRST_OF_KINDS + len(kinds):
        return f", used by the {kinds[counter - FIRST_OF_KINDS]}s alone"
    return ""


def _adds(mode: Mode, sign: int) -> str:
    """Say what is wrong with the sums: 1 for what is lost, -1 for what is too many."""
    wrong = [(sign * (want - got), index, want, got) for index, want, got in mode.counters if sign * (want - got) > 0]
    own = mode.count("own_lost" if sign > 0 else "own_doubled")
    word = "lost" if sign > 0 else "too many"
    if not wrong:
        return f"{own} of {mode.count('own_attempted')} adds {word} in fork children, which have data of their own"
    assert mode.report
    most, index, want, got = max(wrong)
    total = sum(entry[0] for entry in wrong)
    if index == COLLISION_COUNTER:
        address = f"{mode.count('collision_commit'):#x}"
        met = f"two unregistered threads were at {address} at the same time, {mode.count('collisions')} times"
        return f"{total} of {mode.count('adds')} adds {word}; {met}: the sum is {got}, expected {want} ({most} {word})"
    where = f"counter {index}{_writer(mode.report, index)}"
    return f"{total} of {mode.count('adds')} adds {word}; {where}: the sum is {got}, expected {want} ({most} {word})"


def _name_of_loss(subject: Subject, modes: tuple[Mode, ...]) -> str:
    """Name a loss of adds by the evidence.

    Two threads without a registered area that collided were both in the fallback. So are all threads where libc
    registers none, unless the subject says that it took the fast path, or its add takes effect in a critical section.
    """
    if not subject.sections:
        return "not-atomic"
    for mode in modes:
        alone = mode.count("collisions_lost") > 0 or (mode.name == TUNABLE_OFF and mode.adds_lost)
        if alone and not mode.count("unprotected") and _section_of_commit(subject, mode) is None:
            return "fallback-not-atomic"
    return "lost"


def _section_of_commit(subject: Subject, mode: Mode) -> Section | None:
    """Return the critical section in which the add of a thread without an area takes effect."""
    commit = mode.count("collision_commit") if mode.count("collision_unprotected") else 0
    return next((s for s in subject.sections if commit and s.start <= commit < s.start + s.length), None)


def _place(writer: StressWriter) -> str:
    return f"{writer.kind} in a {writer.context}" if writer.context else writer.kind


def _killed(mode: Mode) -> Iterator[Defect]:
    report = mode.report
    if not report:
        if mode.killed:
            yield _defect("hang" if mode.hung else "crash", mode, mode.ending)
        return
    if crash := report.crash:
        thread = f"a {crash.kind}" if crash.kind != "unknown" else "the process"
        where = f"in a {crash.context} of {thread}" if crash.context else f"in {thread}"
        at = f" at its instruction {crash.instruction:#x}" if crash.instruction is not None else ""
        yield _defect("crash", mode, f"{signal_name(crash.signal)} {where}{at}")
    elif report.hung:
        stuck = Counter(_place(writer) for writer in report.writers if writer.at_work)
        kinds = ", ".join(f"{count} x {place}" for place, count in stuck.items()) or "no thread"
        yield _defect("hang", mode, f"the work did not end when it was told to; still at work: {kinds}")


def _miscounted(subject: Subject, modes: tuple[Mode, ...], mode: Mode) -> Iterator[Defect]:
    if mode.adds_lost:
        yield _defect(_name_of_loss(subject, modes), mode, _adds(mode, 1))
    if mode.adds_doubled:
        yield _defect("doubled", mode, _adds(mode, -1))
    if mode.nodes_lost:
        yield _defect("lost", mode, f"{mode.nodes_lost} of the nodes that were pushed are in no stack")
    if mode.nodes_doubled:
        pops = f"{mode.nodes_doubled} of {mode.count('pops')} pops"
        yield _defect("doubled", mode, f"{pops} returned a node that another thread held, or that was in no stack")


def _unprotected(subject: Subject, mode: Mode) -> Iterator[Defect]:
    name = "unprotected-fast-path"
    if mode.report and (unprotected := mode.count("unprotected")):
        kinds = ", ".join(sorted({writer.kind for writer in mode.report.writers if writer.unprotected}))
        yield _defect(
            name, mode, f"{unprotected} operations took the fast path in threads without a registered area ({kinds})"
        )
    elif section := _section_of_commit(subject, mode):
        at = f"{mode.count('collision_commit'):#x}, in the section at {section.start:#x}"
        yield _defect(name, mode, f"an add in a thread without a registered area takes effect at the instruction {at}")


def _defects(subject: Subject, modes: tuple[Mode, ...], mode: Mode) -> Iterator[Defect]:
    yield from _killed(mode)
    yield from _miscounted(subject, modes, mode)
    yield from _unprotected(subject, mode)


def judge(subject: Subject, modes: tuple[Mode, ...]) -> tuple[Defect, ...]:
    """Return what the modes show, a defect for each name."""
    found = [defect for mode in modes for defect in _defects(subject, modes, mode)]
    names = dict.fromkeys(defect.name for defect in found)
    return tuple(_joined([defect for defect in found if defect.name == name]) for name in names)
