"""What the phases of verify found, as documents/verify.py holds it. What the subject does not report is None.

Addresses are those of the subject's file; durations are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rseq_matrix.documents.stage_trial import StageTrial

# --- the phase "stages"


@dataclass(frozen=True)
class StageCell:
    """One cell of the matrix, and what the subject did there."""

    id: str
    stage: str
    class_: str | None
    trial: StageTrial | None
    result: str
    defect: str | None
    reason: str


@dataclass(frozen=True)
class StageTotals:
    """Sums over the cells: adds, and aborts of critical sections."""

    attempted: int
    committed: int
    fast: int
    fallback: int
    aborts: int
    stepped: int


@dataclass(frozen=True)
class StagesFound:
    """What the phase "stages" found."""

    cells: tuple[StageCell, ...]
    said: str
    skipped: str
    summary: Mapping[str, int]
    totals: StageTotals


# --- the phase "interruptions"


@dataclass(frozen=True)
class InterruptedSection:
    """A critical section, and how many of its instructions were interrupted, by kind of interruption."""

    function: str | None
    descriptor: int
    start: int
    instructions: int
    operations: tuple[str, ...]
    """That enter it."""
    after_abort_of: int | None
    """Start of the section that has to be aborted before this one is entered; None: none has to be."""
    tried: Mapping[str, int]
    not_reached: Mapping[str, tuple[int, ...]]
    """By kind, the instructions that were not interrupted."""


@dataclass(frozen=True)
class InterruptedOperation:
    """An operation outside of critical sections, and how many of its instructions were interrupted, by kind."""

    operation: str
    registered: bool
    instructions: int
    left_out: int
    not_reached: int
    after_abort_of: int | None
    tried: Mapping[str, int]


@dataclass(frozen=True)
class InterruptionTotals:
    """Counts of sections, instructions, and pairs of an instruction and a kind of interruption."""

    sections: int
    sections_entered: int
    section_instructions: int
    kinds: int
    section_interruptions: int
    not_reached: int
    outside_instructions: int
    outside_interruptions: int


@dataclass(frozen=True)
class InterruptionsFound:
    """What the phase "interruptions" found."""

    said: str
    cpus: tuple[int, ...]
    totals: InterruptionTotals
    sections: tuple[InterruptedSection, ...]
    outside: tuple[InterruptedOperation, ...]
    without: Mapping[str, str]
    """Kinds that could not be tried, and why."""
    given_up: tuple[str, ...]
    repeats: int
    seconds: float


# --- the phases "stepping" and "gdb"


@dataclass(frozen=True)
class SteppedOperation:
    """One operation that was single-stepped."""

    operation: str
    registered: bool
    steps: int
    """From the subject's first instruction to its last, those of what it calls included."""
    aborts: int
    """Of critical sections."""
    ended: bool
    """Within the limit."""


@dataclass(frozen=True)
class SteppingFound:
    """What the phase "stepping" found."""

    said: str
    limit: int
    operations: tuple[SteppedOperation, ...]
    seconds: float


@dataclass(frozen=True)
class DebuggedOperation:
    """One operation that was stepped in gdb."""

    operation: str
    steps: int
    """From the subject's first instruction to its last, those of what it calls included."""
    aborts: int
    ended: bool
    """Within the limits of steps and time."""
    lines: int | None = None
    """How many times `step` it took; None where the subject has no line information."""


@dataclass(frozen=True)
class DebuggingFound:
    """What the phase "gdb" found."""

    version: str
    said: str
    limit: int
    operations: tuple[DebuggedOperation, ...]
    seconds: float


# --- the phase "stress"


@dataclass(frozen=True)
class StressWriter:
    """One thread or child that worked."""

    kind: str
    entered: int
    registered: int
    adds: int
    fast: int
    signals: int
    unprotected: int
    context: str
    at_work: bool


@dataclass(frozen=True)
class StressCrash:
    """The signal that killed the work, and where."""

    signal: int
    kind: str
    context: str
    instruction: int | None


@dataclass(frozen=True)
class StressCounter:
    """One counter that was used."""

    counter: int
    attempted: int
    sum: int
    lost: int
    doubled: int


@dataclass(frozen=True)
class StressMode:
    """One run of the program, of which nothing was counted: why, or how the program ended."""

    name: str
    unsupported: str
    incomplete: str
    ending: str


@dataclass(frozen=True)
class StressMeasured:
    """What the program printed (csrc/verify/stress/report.c) and the document holds; counts are operations, or as said.

    None is what the subject does not report.
    """

    writers: tuple[StressWriter, ...]
    crash: StressCrash | None
    adds: int
    pushes: int
    pops: int
    empty: int
    """Pops that found nothing."""
    fast: int | None
    fallback: int | None
    aborts: int | None
    """Of critical sections."""
    signals: int
    migrations: int
    registered: int
    """Threads and children."""
    unprotected: int
    """On the fast path, where no area was registered."""
    collisions: int
    """Times that two unregistered threads were brought to the same instruction of an add."""
    collisions_lost: int
    collisions_reason: str
    collision_commit: int
    """Address of the instruction with which the add takes effect there; 0: not found."""
    collision_unprotected: int
    signals_sent: int
    affinities_set: int
    threads: int
    short_lived_threads: int
    key_destructors: int
    vfork_children: int
    fork_children: int
    own_attempted: int
    """Adds of fork children that have data of their own."""
    own_lost: int
    own_doubled: int
    nodes_lost: int
    nodes_doubled: int
    nodes_foreign: int
    enrolled: int
    """Threads that the subject registered."""
    cpus: int
    fork_data: str
    """"shared", "own" or "unknown": whether fork children work on their parent's data."""
    fork_data_reason: str
    hung: bool
    finished: bool
    """The sums were read when nothing worked any more."""
    seconds: float


@dataclass(frozen=True)
class StressModeHead:
    """The first fields of a run of the program that was counted; counts are operations."""

    name: str
    unsupported: str
    incomplete: str
    operations: int
    lost: int
    doubled: int


@dataclass(frozen=True)
class CountedMode(StressMeasured, StressModeHead):
    """One run of the program that was counted: first the fields of StressModeHead, then those of StressMeasured."""

    counters: tuple[StressCounter, ...]


@dataclass(frozen=True)
class StressTotals:
    """Sums over the modes."""

    operations: int
    fast: int | None
    fallback: int | None
    aborts: int | None
    lost: int
    doubled: int


@dataclass(frozen=True)
class StressFound:
    """What the phase "stress" found."""

    said: str
    modes: tuple[StressMode | CountedMode, ...]
    totals: StressTotals


# --- the phase "history"


@dataclass(frozen=True)
class HistoryFound:
    """What the phase "history" found. None where the program printed nothing."""

    said: str
    checked: str
    operations: int
    rounds: int | None
    registered: int | None
    signals: int | None
    migrations: int | None
    seconds: float | None
    histories: int
    searched: int
    overlapping: int
    unplaced: int
    lost: int
    doubled: int
    not_linearizable: tuple[str, ...]


PhaseFound = StagesFound | InterruptionsFound | SteppingFound | DebuggingFound | StressFound | HistoryFound
