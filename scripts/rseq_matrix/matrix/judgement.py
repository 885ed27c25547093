"""The judgement: a pure function of what was recorded and what was expected. It runs nothing and reads nothing."""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from rseq_matrix.matrix.cells import Cell
from rseq_matrix.matrix.log import SIGNATURE, SUBJECT, Record
from rseq_matrix.matrix.tracer import Run
from rseq_matrix.model.classes import classify
from rseq_matrix.model.results import ERROR, FAIL, PASS, UNSUPPORTED, XFAIL, XPASS
from rseq_matrix.model.stages import REACHED_IN_PHASE, STAGES
from rseq_matrix.model.timeline import BEFORE, BEHIND, NOWHERE, RULES, Ending, Expectation

ALIGNMENT = 32
"""Of struct rseq, in the kernel's first ABI; later ones ask for more."""

EXPECTED_COMPLAINT = "for IFUNC symbol `rsm_interposed_indirect'"
"""The dynamic linker advises to relink what ifunc.interposed is made of (glibc sysdeps/x86_64/dl-machine.h)."""


@dataclass(frozen=True)
class Identity:
    """The libc that the cell is about."""

    version: str
    build_id: str | None


@dataclass(frozen=True)
class Judged:
    """A cell with its verdict."""

    cell: Cell
    expected: Expectation
    record: Record | None
    name: str | None
    """The observed class; None if it could not be told."""
    owner: str | None
    committed: int | None
    result: str
    reason: str


def user_registered(record: Record) -> bool:
    """Return U: what a library that follows glibc's manual concludes."""
    return bool(record.thread_pointer and record.rseq_size and record.cpu_id is not None and record.cpu_id >= 0)


def observed_class(record: Record) -> str | None:
    """Name the class from the facts of a record; None if the kernel's part is not known."""
    kernel = kernel_registered(record)
    if kernel is None:
        return None
    follows = record.cpu_id == record.getcpu
    return classify(bool(record.thread_pointer), kernel, user_registered(record), follows)


def kernel_registered(record: Record) -> bool | None:
    """Return K. The in-process oracle tells, and where it cannot, the tracer."""
    if record.kernel_registered is None and record.oracle is not None:
        return record.oracle.registered
    return record.kernel_registered


def observed_owner(record: Record) -> str | None:
    """Name the owner of the registered area: libc's own place for it, or another."""
    kernel = kernel_registered(record)
    if kernel is None:
        return None
    if not kernel:
        return "none"
    if record.query_size or (record.oracle and record.oracle.address == record.area_address):
        return "glibc"
    return "other"


def observed_area(record: Record) -> str:
    """Say on which side of the thread pointer libc has the thread's area."""
    if not record.thread_pointer or not record.rseq_offset:
        return NOWHERE
    return BEHIND if record.rseq_offset > 0 else BEFORE


def out_of_order(records: Mapping[str, Record], order: Mapping[str, int]) -> set[str]:
    """Return the fewest stages that, taken away, leave the rest in the expected order.

    records: in the order in which they were taken; order: the place of each stage in the timeline, equal where stages
    have no order among each other. (The longest non-decreasing subsequence stays.)
    """
    names = [name for name in records if name in order]
    tails: list[int] = []
    tail_names: list[int] = []
    previous: list[int] = []
    for index, name in enumerate(names):
        place = bisect_right(tails, order[name])
        previous.append(tail_names[place - 1] if place else -1)
        tails[place:] = [order[name], *tails[place + 1 :]]
        tail_names[place:] = [index, *tail_names[place + 1 :]]
    kept: set[str] = set()
    at = tail_names[-1] if tail_names else -1
    while at >= 0:
        kept.add(names[at])
        at = previous[at]
    return set(names) - kept


def _number(value: int) -> str:
    return errno.errorcode.get(value, str(value))


def _oracles(record: Record, traced: bool) -> str:
    """Say how the two oracles differ; empty if they agree or one is missing."""
    inside, outside = record.kernel_registered, record.oracle
    if traced and outside is None and record.oracle_errno != errno.EIO:  # EIO: a kernel without the request
        why = f" ({_number(record.oracle_errno)})" if record.oracle_errno else ""
        return f"oracle: the tracer did not see the record being taken{why}"
    if inside is None or outside is None:
        return ""
    if inside != outside.registered:
        return f"oracle: the process says registered={inside}, the tracer {outside.registered}"
    if record.query_size and (record.area_address, record.query_size) != (outside.address, outside.size):
        return (
            f"oracle: the process says {record.query_size} bytes at {record.area_address:#x}, "
            f"the tracer {outside.size} at {outside.address:#x}"
        )
    if record.query_size and outside.signature != SIGNATURE:
        return f"oracle: signature: got {outside.signature:#x}, want {SIGNATURE:#x}"
    return ""


def _identity(record: Record, libc: Identity) -> str:
    """Say that the process ran on another libc than the cell is about."""
    if record.libc_version and record.libc_version != libc.version:
        return f"libc: got {record.libc_version}, want {libc.version}: the process ran on another libc"
    if record.build_id and libc.build_id and record.build_id != libc.build_id:
        return f"dynamic linker: got build id {record.build_id}, want {libc.build_id}"
    return ""


def _task(record: Record, pid: int) -> str:
    if record.pid != pid:
        return "child"
    return "main" if record.tid == pid else "thread"


def _misplaced(record: Record, expected: Expectation, run: Run, order: Mapping[str, int]) -> str:
    """Say that the record was not taken where it says."""
    if record.stage in out_of_order(run.records, order):
        return f"order: the stage came out of its phase; the order was {', '.join(run.records)}"
    want = REACHED_IN_PHASE[expected.phase]
    if record.reached != want:
        return f"phase: the main program had reached {record.reached}, want {want} (phase {expected.phase})"
    task = _task(record, run.pid)
    if task != expected.task:
        return f"task: got {task}, want {expected.task}"
    if expected.relocated is not None and record.relocated != expected.relocated:
        return f"relocated: got {record.relocated}, want {expected.relocated} (the stage's own object)"
    return ""


def _unobserved(cell: Cell, run: Run) -> str:
    """Say why there is no complete record."""
    record = run.records.get(cell.stage)
    what = "the record is not complete" if record else "no record"
    details = [run.misbehaved]
    if run.last_stage:
        details.append(f"last stage reached: {run.last_stage}")
    complaints = [line for line in run.complaints.splitlines() if EXPECTED_COMPLAINT not in line]
    details += [line for line in complaints if "ignored" in line] or complaints[:1]
    return f"{what} ({'; '.join(detail for detail in details if detail) or 'the process ended normally'})"


def speaks_for_bad_end(run: Run, stage: str) -> bool:
    """Return whether a process ended or behaved badly and a stage has to answer for it: it was alone, or the last."""
    return bool(run.misbehaved) and (run.stages == (stage,) or run.last_stage == stage)


def _error(cell: Cell, expected: Expectation, run: Run, order: Mapping[str, int], libc: Identity) -> str:
    """Say why the cell could not be observed; empty if it could."""
    record = run.records.get(cell.stage)
    if record is None or not record.complete:
        return _unobserved(cell, run)
    if speaks_for_bad_end(run, cell.stage):
        return f"{run.misbehaved} (last stage reached: {run.last_stage})"
    firings = run.tallies[cell.stage].firings
    if firings > 1 and not STAGES[cell.stage].repeats:
        return f"the stage fired {firings} times, want once"
    if observed_class(record) is None:
        return f"rseq(2) tells nothing here: the query was answered with {_number(record.query_errno)}"
    return _oracles(record, run.traced) or _identity(record, libc) or _misplaced(record, expected, run, order)


def _lost(run: Run) -> str:
    """Say which stage's adds the subject lost or doubled in this process; empty if the sums are right."""
    for name, tally in run.tallies.items():
        record = run.records.get(name)
        if record and not record.complete:
            continue  # cut off in the middle: its last add may or may not have been made
        if tally.committed != tally.attempted:
            what = "lost" if tally.committed < tally.attempted else "doubled"
            return (
                f"subject: {SUBJECT}: {what} adds in this process: the sum at {name} is {tally.committed}, "
                f"want {tally.attempted}"
            )
    return ""


def _misplaced_area(expected: Expectation, record: Record) -> str:
    """Say that libc has the thread's area elsewhere than expected; empty if not."""
    if observed_area(record) != expected.area:
        rule = RULES["area"]
        got = f"{observed_area(record)} the thread pointer (__rseq_offset {record.rseq_offset})"
        return f"got {got}, want {expected.area} it (because {rule.because}, see {rule.reference})"
    if (record.area_address or 0) % ALIGNMENT:
        return f"got address {record.area_address:#x}, want a multiple of {ALIGNMENT} (because rseq(2) refuses it)"
    return ""


def _subject_difference(cell: Cell, expected: Expectation, run: Run, record: Record) -> str:
    """Say that the subject went another way than it should, or lost something; empty if not."""
    if record.path != expected.path:
        return (
            f"{cell.stage}: subject path: got {record.path}, want {expected.path} (because the cell is {expected.name})"
        )
    return _lost(run)


def _difference(cell: Cell, expected: Expectation, run: Run, record: Record) -> str:
    """Say what differs from the expectation; empty if nothing."""
    why = f"(because {expected.because}, see {expected.reference})"
    got, owner = observed_class(record), observed_owner(record)
    if got != expected.name:
        return f"{cell.stage}: class: got {got}, want {expected.name} {why}"
    if owner != expected.owner:
        return f"{cell.stage}: owner: got {owner}, want {expected.owner} {why}"
    misplaced = _misplaced_area(expected, record)
    if misplaced:
        return f"{cell.stage}: area: {misplaced}"
    if expected.section is not None and record.section != expected.section:
        return f"{cell.stage}: critical section: got {record.section}, want {expected.section} {why}"
    return _subject_difference(cell, expected, run, record)


def _judge_observed(cell: Cell, expected: Expectation, run: Run, order: Mapping[str, int], libc: Identity) -> Judged:
    """Judge a cell whose process has to pass through its stage and live on."""
    record = run.records.get(cell.stage)
    error = _error(cell, expected, run, order, libc)
    if record is None or not record.complete:
        return Judged(cell, expected, None, None, None, None, ERROR if error else PASS, error)
    reason = error or _difference(cell, expected, run, record)
    return Judged(
        cell=cell,
        expected=expected,
        record=record,
        name=observed_class(record),
        owner=observed_owner(record),
        committed=run.tallies[cell.stage].committed,
        result=ERROR if error else FAIL if reason else PASS,
        reason=reason,
    )


def judge(
    cell: Cell, expected: Expectation, run: Run | None, order: Mapping[str, int], libc: Identity, obstacle: str = ""
) -> Judged:
    """Judge one cell.

    run: the run that speaks for the cell, None if there was none, for the reason in `obstacle`; order: the place of
    every stage of the scenario in the timeline.
    """
    if run is None:
        return Judged(cell, expected, None, None, None, None, ERROR, obstacle)
    if expected.ending:
        result, reason = judge_ending(cell.stage, expected.ending, run)
        record = run.records.get(cell.stage)
        if result == XFAIL and record and record.complete and (other := _difference(cell, expected, run, record)):
            result, reason = FAIL, other  # the end came behind the stage, and what was seen there counts
        return Judged(cell, expected, None, None, None, None, result, reason)
    return _judge_observed(cell, expected, run, order, libc)


def judge_ending(stage: str, ending: Ending, run: Run) -> tuple[str, str]:
    """Judge a stage whose process has to end before its time. Returns result and reason; XFAIL: it did, as expected."""
    why = f"(because {ending.because}, see {ending.reference})"
    want = f"killed by {ending.signal}{f', saying {ending.message!r}' if ending.message else ''}"
    if run.ending != f"killed by {ending.signal}":
        got = run.misbehaved or "the process ended normally"
        return FAIL if run.misbehaved else XPASS, f"{stage}: ending: got {got}, want {want} {why}"
    if ending.message not in run.complaints:
        said = run.complaints.splitlines()[0] if run.complaints else "nothing"
        return FAIL, f"{stage}: ending: got {said!r} on standard error, want {want} {why}"
    return XFAIL, f"as expected: {want} {why}"


def unsupported(cell: Cell, expected: Expectation, reason: str) -> Judged:
    """Return the verdict on a cell that this machine cannot have."""
    return Judged(cell, expected, None, None, None, None, UNSUPPORTED, reason)
