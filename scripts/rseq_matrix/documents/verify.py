"""The document of `verify --json`, schema/verify-1.json. What the subject does not tell is None.

Addresses are those of the subject's file; durations are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rseq_matrix.documents.run import HostKernel, LibcIdentity
from rseq_matrix.documents.verify_phases import PhaseFound

VERIFY_SCHEMA = 1

PHASES: Mapping[str, str] = {
    "stages": "it is called at every stage, or at those that STAGE-GLOB matches",
    "interruptions": "its operations are interrupted at every instruction",
    "stepping": "a tracer single-steps its operations: critical sections abort",
    "gdb": "the same in gdb(1)",
    "stress": "threads, children and signal handlers call it at the same time",
    "history": "its pushes and pops are compared with those of a stack",
}
"""What is done with a subject, in the order in which it is done."""

DEFECTS: Mapping[str, str] = {
    "unprotected-fast-path": "takes the fast path in a thread that has no rseq area registered",
    "lost": "operations were lost",
    "doubled": "operations took effect more than once",
    "early-commit": "stores its result before the last instruction of the critical section",
    "not-retried": "an aborted operation is neither retried nor done by the fallback",
    "doubled-after-abort": "an aborted operation takes effect more than once",
    "livelock": "retries without end where every try is aborted",
    "not-reentrant": "fails when a signal handler that interrupts it calls it",
    "fallback-not-atomic": "the fallback loses operations of other threads",
    "not-atomic": "has no critical sections and loses operations of other threads",
    "needs-tls": "uses TLS before it is set up",
    "needs-relocation": "uses its GOT or PLT before it is relocated",
    "crash": "crashes",
    "hang": "does not return",
    "not-loaded": "cannot be loaded",
    "not-linearizable": "its stacks are not last in, first out",
}
"""What can be wrong with a subject: every name that reports, JSON and tests use, and what it says of the subject."""


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a subject."""

    name: str
    """One of DEFECTS."""
    phase: str
    """"stages", "interruptions", "stepping", "gdb", "stress" or "history"."""
    where: str
    """The place: a cell, or a section and an instruction, or the kind of process."""
    sentence: str
    """What was observed and what was expected."""

    def __post_init__(self) -> None:
        if self.name not in DEFECTS:
            raise ValueError(self.name)


# --- the document


@dataclass(frozen=True)
class PhaseResult:
    """One phase of one subject. `reason` says why it is not PASS."""

    result: str
    reason: str
    seconds: float
    found: PhaseFound | None


@dataclass(frozen=True)
class SubjectTotals:
    """Sums over the phases; None is what the subject does not tell, or what no phase counted."""

    operations: int | None = None
    """Adds, pushes and pops."""
    fast: int | None = None
    """Of them, those that the subject says it did in a critical section."""
    fallback: int | None = None
    """Of them, those that the subject says it did without one."""
    aborts: int | None = None
    """Of critical sections, as the subject counts them."""
    lost: int | None = None
    doubled: int | None = None
    stages: int | None = None
    """At which it passed."""
    instructions: int | None = None
    """At which an operation was interrupted."""


@dataclass(frozen=True)
class SubjectResult:
    """One subject. `sections` counts its critical sections; `exports` are the functions of csrc/subject.h."""

    name: str
    path: str
    exports: tuple[str, ...]
    sections: int
    result: str
    totals: SubjectTotals
    phases: Mapping[str, PhaseResult]
    defects: tuple[Defect, ...]


@dataclass(frozen=True)
class VerifyRequest:
    """What the command line asks for. Empty means all, or the default."""

    subjects: tuple[str, ...] = ()
    """Names of built-in subjects, and paths."""
    globs: tuple[str, ...] = ()
    """Of stages and cells, for the phase that goes through the matrix."""
    phases: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    """Of the same phase."""
    seconds: float = 5.0
    """Of stress, for each subject."""
    adds: int = 2000
    """At each stage."""
    jobs: int = 0
    """Processes side by side; 0: one for each CPU."""


@dataclass(frozen=True)
class VerifyDocument:
    """One run of verify. `complete` is false where it was interrupted."""

    schema: int
    complete: bool
    host: HostKernel
    libc: LibcIdentity
    wanted: VerifyRequest
    subjects: tuple[SubjectResult, ...]
    summary: Mapping[str, int]
