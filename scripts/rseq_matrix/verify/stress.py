"""The subject under stress: everybody works on the same per-CPU data at once, and at the end all is counted."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rseq_matrix.elf.facts import Section
from rseq_matrix.signals import signal_name
from rseq_matrix.verify import supervised
from rseq_matrix.verify.defects import Defect
from rseq_matrix.verify.subject import Subject

PHASE = "stress"
DEFAULT, TUNABLE_OFF, HALF_REGISTERED = "default", "tunable-off", "half-registered"
MODES = (DEFAULT, TUNABLE_OFF, HALF_REGISTERED)
RSEQ_OFF = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
ENVIRONMENTS = {DEFAULT: {}, TUNABLE_OFF: RSEQ_OFF, HALF_REGISTERED: RSEQ_OFF}
GRACE = 40.0
"""Seconds beyond its time that the program may take; its own limits (csrc/verify/supervised.c) end it before that."""
FIRST_OF_KINDS, FIRST_OF_WRITERS, COLLISION_COUNTER = 16, 64, 9
"""csrc/verify/stress/stress.h."""
HALF_NEEDS = "rsm_subject_register"
PROMISES = {
    "signals": "no signal was delivered",
    "migrations": "no thread was moved to another CPU",
    "vfork_children": "there was no vfork child",
    "fork_children": "there was no fork child",
    "short_lived_threads": "no short-lived thread was created",
    "key_destructors": "no key destructor ran",
}
"""What every run does; if not, the run shows nothing, and the reason is not the subject's."""

Report = dict[str, Any]


@dataclass(frozen=True)
class Mode:
    """One run of the program."""

    name: str
    report: Report | None = None
    """What the program printed (csrc/verify/stress/report.c)."""
    ending: str = ""
    """How the program ended, if it printed nothing."""
    killed: bool = False
    """Whether that was a crash or a hang; else the program could not do its work."""
    unsupported: str = ""

    def count(self, name: str) -> int:
        """Return a number of the report."""
        return int(self.report[name]) if self.report else 0

    @property
    def finished(self) -> bool:
        """Return whether the sums were read when all was quiet."""
        return bool(self.report and self.report["finished"])

    @property
    def hung(self) -> bool:
        """Return whether it had to be ended."""
        return bool(self.report["hung"]) if self.report else self.ending == supervised.STILL_RUNNING

    @property
    def counters(self) -> list[tuple[int, int, int]]:
        """Return the counters that were used: index, what was attempted, what the subject's sum is."""
        found = self.report["counters"] if self.report and self.finished else []
        return [(index, want, got) for index, (want, got) in enumerate(found) if want or got]

    @property
    def operations(self) -> int:
        """Return how much was done."""
        return sum(self.count(name) for name in ("adds", "pushes", "pops", "empty", "own_attempted"))

    @property
    def adds_lost(self) -> int:
        """Return how many adds are missing."""
        return sum(max(0, want - got) for _, want, got in self.counters) + self.count("own_lost")

    @property
    def adds_doubled(self) -> int:
        """Return how many adds are too many."""
        return sum(max(0, got - want) for _, want, got in self.counters) + self.count("own_doubled")

    @property
    def nodes_lost(self) -> int:
        """Return how many nodes are in no stack that should be in one."""
        return self.count("nodes_lost") if self.finished else 0

    @property
    def nodes_doubled(self) -> int:
        """Return how many pops gave a node that was somebody else's, or nobody's."""
        return self.count("nodes_doubled") + self.count("nodes_foreign")

    @property
    def incomplete(self) -> str:
        """Say what was not done that should have been; empty if all was."""
        if self.unsupported or not self.report:
            return "" if self.killed or self.unsupported else self.ending
        if self.report["crash"] or self.report["hung"]:
            return ""
        if not self.finished:
            return f"the work ended with exit status {self.report['status']}"
        return "; ".join(self._missing())

    def _missing(self) -> Iterator[str]:
        for name, sentence in PROMISES.items():
            if not self.count(name):
                yield sentence + (": only one CPU is allowed here" if self.count("cpus") < 2 else "")
        if self.name == HALF_REGISTERED and not self.count("enrolled"):
            number = self.count("enroll_error")
            yield f"{HALF_NEEDS}() registered no thread ({errno.errorcode.get(number, number)}: {os.strerror(number)})"

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        document: dict[str, Any] = {"name": self.name, "unsupported": self.unsupported, "incomplete": self.incomplete}
        if not self.report:
            return document | {"ending": self.ending}
        numbers = {
            name: value for name, value in self.report.items() if name not in ("counters", "status", "enroll_error")
        }
        counters = [
            {"counter": index, "attempted": want, "sum": got, "lost": max(0, want - got), "doubled": max(0, got - want)}
            for index, want, got in self.counters
        ]
        totals = {"operations": self.operations, "lost": self.adds_lost + self.nodes_lost}
        return (
            document | totals | {"doubled": self.adds_doubled + self.nodes_doubled} | numbers | {"counters": counters}
        )


@dataclass(frozen=True)
class Stress:
    """The phase's result."""

    subject: Subject
    modes: tuple[Mode, ...]

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Return what was found, an entry for each name."""
        found = [defect for mode in self.modes for defect in _defects(self.subject, self.modes, mode)]
        names = dict.fromkeys(defect.name for defect in found)
        return tuple(_joined([defect for defect in found if defect.name == name]) for name in names)

    @property
    def unsupported(self) -> str:
        """Say why there was no run at all."""
        reasons = [mode.unsupported for mode in self.modes if mode.unsupported]
        return reasons[0] if len(reasons) == len(self.modes) else ""

    @property
    def problem(self) -> str:
        """Say what was not done that should have been; empty if all was."""
        return "; ".join(f"{mode.name}: {mode.incomplete}" for mode in self.modes if mode.incomplete)

    def counts(self) -> dict[str, int | None]:
        """Return what the phase adds to the totals; None for what the subject does not tell."""
        tells_path = "rsm_subject_path" in self.subject.exports
        tells_aborts = "rsm_subject_aborts" in self.subject.exports
        return {
            "operations": self._total("operations"),
            "fast": sum(mode.count("fast") for mode in self.modes) if tells_path else None,
            "fallback": sum(mode.count("fallback") for mode in self.modes) if tells_path else None,
            "aborts": sum(mode.count("aborts") for mode in self.modes) if tells_aborts else None,
            "lost": self._total("adds_lost") + self._total("nodes_lost"),
            "doubled": self._total("adds_doubled") + self._total("nodes_doubled"),
        }

    def _total(self, name: str) -> int:
        return sum(getattr(mode, name) for mode in self.modes)

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        counts = self.counts()
        telling = {name: None for name in ("fast", "fallback", "aborts") if counts[name] is None}
        modes = [mode.document() | (telling if mode.report else {}) for mode in self.modes]
        return {"said": self._said(), "modes": modes, "totals": counts}

    def _said(self) -> str:
        run = [mode for mode in self.modes if mode.report]
        parts = [f"{mode.name} {mode.operations:,}" for mode in run]
        parts += [f"no {mode.name} ({mode.unsupported})" for mode in self.modes if mode.unsupported]
        if any(mode.report and mode.report["fork_data"] == "own" for mode in run):
            parts.append("fork children have data of their own and are judged alone")
        return f"operations: {'; '.join(parts)}"


# --- the judgement


def _joined(defects: list[Defect]) -> Defect:
    """Make one of those that have the same name."""
    first = defects[0]
    modes = list(dict.fromkeys(defect.where for defect in defects))
    others = f"; and in mode {', '.join(modes[1:])}" if len(modes) > 1 else ""
    return replace(first, where=", ".join(modes), sentence=first.sentence + others)


def _defect(name: str, mode: Mode, sentence: str) -> Defect:
    return Defect(name, PHASE, mode.name, f"mode {mode.name}: {sentence}")


def _writer(report: Report, counter: int) -> str:
    """Return who alone used a counter; empty if that was everybody."""
    kinds = list(dict.fromkeys(writer["kind"] for writer in report["writers"]))
    if counter >= FIRST_OF_WRITERS and counter - FIRST_OF_WRITERS < len(report["writers"]):
        return f", used by one {report['writers'][counter - FIRST_OF_WRITERS]['kind']} alone"
    if FIRST_OF_KINDS <= counter < FIRST_OF_KINDS + len(kinds):
        return f", used by the {kinds[counter - FIRST_OF_KINDS]}s alone"
    return ""


def _adds(mode: Mode, sign: int) -> str:
    """Say what is wrong with the sums: 1 for what is lost, -1 for what is too many."""
    wrong = [(sign * (want - got), index, want, got) for index, want, got in mode.counters if sign * (want - got) > 0]
    own = mode.count("own_lost" if sign > 0 else "own_doubled")
    word = "lost" if sign > 0 else "too many"
    if not wrong:
        return f"{own} of {mode.count('own_attempted')} adds {word} in fork children that were alone with their data"
    assert mode.report
    most, index, want, got = max(wrong)
    total = sum(entry[0] for entry in wrong)
    if index == COLLISION_COUNTER:
        met = f"{mode.count('collisions')} times two unregistered threads met at {mode.count('collision_commit'):#x}"
        return f"{total} of {mode.count('adds')} adds {word}; {met}: got a sum of {got}, want {want} ({most} {word})"
    where = f"counter {index}{_writer(mode.report, index)}"
    return f"{total} of {mode.count('adds')} adds {word}; {where}: got a sum of {got}, want {want} ({most} {word})"


def _name_of_loss(subject: Subject, modes: tuple[Mode, ...]) -> str:
    """Name a loss of adds by the evidence.

    Two threads that nobody registered and that collided were both in the fallback. So is everybody where libc registers
    nobody. That no fast path was taken there nevertheless is told by the subject, or by where its add takes effect.
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


def _place(writer: Report) -> str:
    return f"{writer['kind']} in a {writer['context']}" if writer["context"] else str(writer["kind"])


def _killed(mode: Mode) -> Iterator[Defect]:
    report = mode.report
    if not report:
        if mode.killed:
            yield _defect("hang" if mode.hung else "crash", mode, mode.ending)
        return
    if crash := report["crash"]:
        who = f"a {crash['kind']}" if crash["kind"] != "unknown" else "the process"
        where = f"in a {crash['context']} of {who}" if crash["context"] else f"in {who}"
        at = f" at its instruction {crash['instruction']:#x}" if crash["instruction"] is not None else ""
        yield _defect("crash", mode, f"{signal_name(crash['signal'])} {where}{at}")
    elif report["hung"]:
        stuck = Counter(_place(writer) for writer in report["writers"] if writer["at_work"])
        kinds = ", ".join(f"{count} x {place}" for place, count in stuck.items()) or "nobody"
        yield _defect("hang", mode, f"the work did not come to its end when it was told to; still at work: {kinds}")


def _miscounted(subject: Subject, modes: tuple[Mode, ...], mode: Mode) -> Iterator[Defect]:
    if mode.adds_lost:
        yield _defect(_name_of_loss(subject, modes), mode, _adds(mode, 1))
    if mode.adds_doubled:
        yield _defect("doubled", mode, _adds(mode, -1))
    if mode.nodes_lost:
        yield _defect("lost", mode, f"{mode.nodes_lost} of the nodes that were pushed are in no stack")
    if mode.nodes_doubled:
        sentence = (
            f"{mode.nodes_doubled} of {mode.count('pops')} pops gave a node that was somebody else's, or nobody's"
        )
        yield _defect("doubled", mode, sentence)


def _unprotected(subject: Subject, mode: Mode) -> Iterator[Defect]:
    name = "unprotected-fast-path"
    if mode.report and (unprotected := mode.count("unprotected")):
        kinds = ", ".join(sorted({writer["kind"] for writer in mode.report["writers"] if writer["unprotected"]}))
        yield _defect(name, mode, f"{unprotected} operations took the fast path where the kernel has no area ({kinds})")
    elif section := _section_of_commit(subject, mode):
        at = f"{mode.count('collision_commit'):#x}, in the section at {section.start:#x}"
        yield _defect(name, mode, f"an add of a thread that nobody registered takes effect at the instruction {at}")


def _defects(subject: Subject, modes: tuple[Mode, ...], mode: Mode) -> Iterator[Defect]:
    yield from _killed(mode)
    yield from _miscounted(subject, modes, mode)
    yield from _unprotected(subject, mode)


# --- the run


def _read(name: str, outcome: supervised.Outcome) -> Mode:
    try:
        return Mode(name, json.loads(outcome.output))
    except ValueError:
        return Mode(name, None, outcome.ending, killed=outcome.status is None or outcome.status < 0)


def _unsupported(subject: Subject, name: str) -> str:
    lacks = name == HALF_REGISTERED and HALF_NEEDS not in subject.exports
    return f"the subject has no {HALF_NEEDS}(), so it registers nobody" if lacks else ""


def stress(subject: Subject, program: Path, seconds: float, progress: Callable[[float], None]) -> Stress:
    """Put the subject under stress in every mode that it can have, for `seconds` in all.

    `progress` is told which part is done, 0 to 1.
    """
    reasons = {name: _unsupported(subject, name) for name in MODES}
    wanted = [name for name, reason in reasons.items() if not reason]
    share = seconds / len(wanted)
    modes: list[Mode] = []
    for name, reason in reasons.items():
        hung = next((f"mode {mode.name} did not come to its end" for mode in modes if mode.hung), "")
        if reason := reason or hung:
            modes.append(Mode(name, unsupported=reason))
            continue
        place = wanted.index(name)

        def tick(elapsed: float, place: int = place) -> None:
            progress((place + min(1.0, elapsed / share)) / len(wanted))

        environment = subject.environment() | ENVIRONMENTS[name]
        outcome = supervised.run([str(program), name, f"{share:.3f}"], environment, share + GRACE, tick)
        modes.append(_read(name, outcome))
    return Stress(subject, tuple(modes))
