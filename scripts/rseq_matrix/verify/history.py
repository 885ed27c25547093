"""The history of pushes and pops: what threads saw of the stacks, and whether that is what stacks can show."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rseq_matrix.documents.reading import DamagedError, read
from rseq_matrix.documents.verify import Defect
from rseq_matrix.documents.verify_phases import HistoryFound
from rseq_matrix.signals import signal_name
from rseq_matrix.verify import supervised
from rseq_matrix.verify.linearizability import EMPTY, POP, PUSH, StackOperation, first_impossible, smallest
from rseq_matrix.verify.subject import Subject

PHASE = "history"
SIZE = 96 << 20
"""Bytes for the records; a run ends when they are full."""
GRACE = 40.0
"""Seconds beyond its time that the program may take; its own limits end it before that."""
SHARED = -1
THREADS = 4
"""csrc/verify/history/history.h."""
NOBODYS = 0xFFFFFFFF
RECORD = np.dtype(
    [
        ("begin", "<u4"),
        ("end", "<u4"),
        ("value", "<u4"),
        ("round", "<u4"),
        ("stack", "<i2"),
        ("known", "u1"),
        ("kind", "u1"),
        ("thread", "u1"),
        ("context", "u1"),
        ("unused", "<u2"),
    ]
)
"""struct history_operation of csrc/verify/history/history.h."""

Records = npt.NDArray[Any]


@dataclass(frozen=True)
class Conservation:
    """Whether what was pushed was popped, once."""

    lost: int
    """Nodes that were pushed and never came back."""
    doubled: int
    """Pops of a value that had been popped, or that was not pushed in that round."""
    example: str = ""


@dataclass(frozen=True)
class Bad:
    """The history of one stack in one round that no stack can show."""

    round: int
    stack: int
    operations: tuple[StackOperation, ...] = ()
    """The smallest part of it that no stack can show; empty where another history is described."""

    def __str__(self) -> str:
        name = "the shared stack" if self.stack == SHARED else f"the stack of CPU {self.stack}"
        return f"round {self.round}, {name}" + (f": {'; '.join(map(str, self.operations))}" if self.operations else "")


@dataclass(frozen=True)
class Judgement:
    """What the records say."""

    conservation: Conservation
    bad: tuple[Bad, ...] = ()
    """Not all, if there are many: the search ends at LIMIT."""
    histories: int = 0
    """One for each round and stack."""
    searched: int = 0
    """Those of them that the order of ends did not explain."""
    overlapping: int = 0
    """Operations that were under way at the same time as another one of the same stack."""
    unplaced: int = 0
    """Pairs of push and pop of which it is not known which stack they used."""


LIMIT = 8
"""Histories that are described; one is enough to condemn."""


def conservation(records: Records) -> Conservation:
    """Compare pushes with pops, of all rounds."""
    pushes = records[records["kind"] == PUSH]
    pops = records[(records["kind"] == POP) & (records["value"] != EMPTY)]
    pushed = pushes["round"].astype(np.uint64) << np.uint64(32) | pushes["value"]
    pulled = pops["round"].astype(np.uint64) << np.uint64(32) | pops["value"]
    if np.array_equal(np.sort(pushed), np.sort(pulled)):  # no two pushes have the same value
        return Conservation(0, 0)
    popped, times = np.unique(pulled, return_counts=True)
    unknown = ~np.isin(popped, pushed)
    missing = pushed[~np.isin(pushed, popped)]
    repeated = popped[(times > 1) | unknown]
    example = ""
    if len(repeated):
        example = _story(records, int(repeated[0]))
    elif len(missing):
        example = _story(records, int(missing[0]))
    return Conservation(len(missing), int((times - 1).sum() + unknown.sum()), example)


def _story(records: Records, key: int) -> str:
    """Tell all that happened to one value."""
    found = records[(records["round"] == key >> 32) & (records["value"] == key & 0xFFFFFFFF)]
    return f"round {key >> 32}: " + "; ".join(str(_operation(record)) for record in np.sort(found, order="begin"))


def _source(thread: int, context: int) -> str:
    if thread == THREADS:
        return "drain"
    return f"thread {thread}{' in a handler' if context else ''}"


def _operation(record: Any) -> StackOperation:
    source = _source(int(record["thread"]), int(record["context"]))
    return StackOperation(int(record["kind"]), int(record["value"]), int(record["begin"]), int(record["end"]), source)


def placed(records: Records) -> tuple[Records, int]:
    """Give every operation its stack, and return how many pairs have none and are left out.

    Where a signal handler interrupted the operation, the stack that the subject named may be the handler's. But a push
    and the pop of its value used the same one. If neither is known both are left out: without them, the history is
    still that of a stack.
    """
    records = records.copy()
    empty = records["value"] == EMPTY
    records["stack"][empty] = SHARED
    records["known"][empty] = 1
    known = records[(records["known"] == 1) & ~empty]
    values, first = np.unique(known["value"], return_index=True)
    unknown = np.flatnonzero(records["known"] == 0)
    if len(values) and len(unknown):
        place = np.minimum(np.searchsorted(values, records["value"][unknown]), len(values) - 1)
        told = values[place] == records["value"][unknown]
        records["stack"][unknown[told]] = known["stack"][first[place[told]]]
        records["known"][unknown[told]] = 1
    kept = records["known"] == 1
    return records[kept], int(np.count_nonzero(~kept) // 2)


def _suspicious(records: Records) -> tuple[list[tuple[int, int]], int, int]:
    """Return which histories the order of ends does not explain, how many there are, and how many overlap.

    `records` are sorted by round, stack and end.
    """
    rounds, stacks = records["round"].astype(np.int64), records["stack"].astype(np.int64)
    new = np.ones(len(records), bool)
    new[1:] = (rounds[1:] != rounds[:-1]) | (stacks[1:] != stacks[:-1])
    overlapping = ~new
    overlapping[1:] &= records["begin"][1:] < records["end"][:-1]
    starts = np.append(np.flatnonzero(new), len(records)).tolist()
    pushes, values = (records["kind"] == PUSH).tolist(), records["value"].tolist()
    found = []
    for start, end in pairwise(starts):
        stack: list[int] = []
        for index in range(start, end):
            value = values[index]
            if pushes[index]:
                stack.append(value)
            elif value == EMPTY:
                if stack:
                    break
            elif not stack or stack.pop() != value:
                break
        else:
            continue
        found.append((start, end))
    return found, len(starts) - 1, int(np.count_nonzero(overlapping))


def judge(records: Records, with_stacks: bool) -> Judgement:
    """Judge the records of finished rounds."""
    conserved = conservation(records)
    if not with_stacks or conserved.lost or conserved.doubled:
        return Judgement(conserved)
    kept, unplaced = placed(records)
    kept = kept[np.lexsort((kept["end"], kept["stack"], kept["round"]))]
    suspicious, histories, overlapping = _suspicious(kept)
    bad: list[Bad] = []
    for start, end in suspicious:
        operations = [_operation(record) for record in kept[start:end]]
        if first_impossible(operations) is not None:
            round_number, stack = int(kept["round"][start]), int(kept["stack"][start])
            bad.append(Bad(round_number, stack, tuple(smallest(operations)) if not bad else ()))
        if len(bad) == LIMIT:
            break
    return Judgement(conserved, tuple(bad), histories, len(suspicious), overlapping, unplaced)


@dataclass(frozen=True)
class HistoryReport:
    """What the program printed (csrc/verify/history/history.c)."""

    logs: tuple[tuple[int, ...], ...]
    """Of each thread: the place of its first record, and how many it has."""
    rounds: int
    registered: int
    """Threads."""
    signals: int
    migrations: int
    damaged: bool
    """A round did not end with every node in hand."""
    hung: bool
    signal: int
    """That killed the work; 0: none."""
    status: int
    """Its exit status."""
    seconds: float


@dataclass(frozen=True)
class History:
    """The phase's result."""

    subject: Subject
    unsupported: str = ""
    report: HistoryReport | None = None
    outcome: supervised.ProgramEnd | None = None
    records: int = 0
    judgement: Judgement = field(default_factory=lambda: Judgement(Conservation(0, 0)))

    @property
    def with_stacks(self) -> bool:
        """Return whether the subject tells which stack it used."""
        return "rsm_subject_stack" in self.subject.exports

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Return what was found."""
        return tuple(Defect(name, PHASE, "rounds", sentence) for name, sentence in self._findings())

    def _findings(self) -> Iterator[tuple[str, str]]:
        report = self.report
        if not report and self.outcome and (self.outcome.status is None or self.outcome.status < 0):
            yield "hang" if self.outcome.status is None else "crash", self.outcome.ending
        if report and report.signal:
            yield "crash", f"{signal_name(report.signal)} in round {report.rounds}"
        if report and report.hung:
            yield "hang", f"round {report.rounds} did not end"
        conserved = self.judgement.conservation
        if conserved.doubled:
            unknown = "that had been popped before or was never pushed"
            yield "doubled", f"{conserved.doubled} pops returned a node {unknown} ({conserved.example})"
        if conserved.lost:
            yield "lost", f"{conserved.lost} nodes that were pushed were never popped ({conserved.example})"
        if self.judgement.bad:
            yield "not-linearizable", f"no stack behaves like this: {self.judgement.bad[0]}"

    @property
    def problem(self) -> str:
        """Say what was not done that should have been; empty if all was."""
        if self.unsupported or self.defects:
            return ""
        if not self.report:
            return self.outcome.ending if self.outcome else "it was not run"
        if self.report.status:
            return f"the work ended with exit status {self.report.status}"
        if self.report.damaged:
            return "a round did not end with every node in hand, and the records do not tell why"
        missing = [name for name in ("rounds", "signals", "migrations") if not getattr(self.report, name)]
        missing += ["overlapping operations"] if self.with_stacks and not self.judgement.overlapping else []
        return f"there were no {' and no '.join(missing)}" if missing else ""

    def counts(self) -> dict[str, int | None]:
        """Return what the phase adds to the totals."""
        conserved = self.judgement.conservation
        return {"operations": self.records, "lost": conserved.lost, "doubled": conserved.doubled}

    def document(self) -> HistoryFound:
        """Return it as the JSON document holds it."""
        judgement, report = self.judgement, self.report
        return HistoryFound(
            said=self._said(),
            checked=self._checked(),
            operations=self.records,
            rounds=report.rounds if report else None,
            registered=report.registered if report else None,
            signals=report.signals if report else None,
            migrations=report.migrations if report else None,
            seconds=report.seconds if report else None,
            histories=judgement.histories,
            searched=judgement.searched,
            overlapping=judgement.overlapping,
            unplaced=judgement.unplaced,
            lost=judgement.conservation.lost,
            doubled=judgement.conservation.doubled,
            not_linearizable=tuple(str(bad) for bad in judgement.bad),
        )

    def _checked(self) -> str:
        if self.unsupported:
            return ""
        if self.with_stacks:
            return "conservation of nodes, and linearizability of each stack"
        return "conservation of nodes alone: the subject has no rsm_subject_stack(), so the order cannot be judged"

    def _said(self) -> str:
        rounds = self.report.rounds if self.report else 0
        return f"{self.records:,} pushes and pops in {rounds:,} rounds; checked: {self._checked()}"


def _read(memory: mmap.mmap, report: HistoryReport) -> Records:
    """Return the records of all finished rounds."""
    logs = [
        np.frombuffer(memory, RECORD, min(count, SIZE // RECORD.itemsize - first), first * RECORD.itemsize)
        for first, count in report.logs
    ]
    records: Records = np.concatenate(logs)
    finished: Records = records[(records["round"] < report.rounds) & (records["end"] > 0)]
    return finished


def history(subject: Subject, program: Path, seconds: float) -> History:
    """Let threads push and pop for `seconds`, and judge what they saw."""
    if not subject.stacks:
        return History(subject, "the subject has no rsm_subject_push() and rsm_subject_pop(): it has no stacks")
    descriptor = os.memfd_create("rseq-matrix-history")
    try:
        os.ftruncate(descriptor, SIZE)
        command = [str(program), f"{seconds:.3f}", str(descriptor), str(SIZE)]
        outcome = supervised.run(
            command, subject.environment(), seconds + GRACE, lambda _: None, descriptors=(descriptor,)
        )
        try:
            report = read(HistoryReport, json.loads(outcome.output))
        except (ValueError, DamagedError):
            return History(subject, outcome=outcome)
        with mmap.mmap(descriptor, SIZE) as memory:
            records = _read(memory, report)
    finally:
        os.close(descriptor)
    told = "rsm_subject_stack" in subject.exports
    return History(subject, "", report, outcome, len(records), judge(records, told))
