"""The document of `run --json`, schema/run-1.json. What could not be known is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rseq_matrix.documents.reading import CALLED

SCHEMA = 1


@dataclass(frozen=True)
class HostKernel:
    """The kernel of a run, and the machine. Sizes in bytes."""

    kernel: str
    release: str
    machine: str
    rseq: str
    """"present", or what rseq(2) answers to everything."""
    feature_size: int | None
    align: int | None
    cpus: int


@dataclass(frozen=True)
class Registers:
    """Whether libc has rseq support, which is where __rseq_offset is defined."""

    dynamic: bool
    static: bool


@dataclass(frozen=True)
class LibcFeatures:
    """What was found out about a libc for the model; links are the keys."""

    registers: Registers
    area: Mapping[str, str]
    static_thread_pointer_first: Mapping[str, bool]
    preloaded_first: bool
    audit_binds_lazily: bool
    absent: Mapping[str, str]
    """What stages need and the libc does not have, and why that is believed."""


@dataclass(frozen=True)
class LibcIdentity:
    """Which libc it was. The build id is the dynamic linker's."""

    id: str
    version: str
    build_id: str | None
    loader: str | None


@dataclass(frozen=True)
class LibcOfRun(LibcIdentity):
    """A libc of a run, with how to ask for it."""

    spec: str
    features: LibcFeatures


@dataclass(frozen=True)
class OracleAnswer:
    """What a tracer read with PTRACE_GET_RSEQ_CONFIGURATION; None but for `registered` where nothing is registered."""

    registered: bool
    address: int | None
    size: int | None
    signature: int | None


@dataclass(frozen=True)
class Observation:
    """What was observed at a stage. Sizes and offsets in bytes."""

    class_: str | None
    owner: str | None
    thread_pointer: bool
    kernel_registered: bool | None
    user_registered: bool
    rseq_size: int | None
    rseq_offset: int | None
    rseq_flags: int | None
    area: str
    area_address: int | None
    cpu_id: int | None
    cpu_id_start: int | None
    getcpu: int
    sched_getcpu: int | None
    relocated: bool
    critical_section: str | None
    libc_version: str | None
    oracle: OracleAnswer | None = field(metadata={CALLED: "the oracle"})


@dataclass(frozen=True)
class ExpectedEnding:
    """How a process is expected to end at a stage, or before it."""

    signal: str
    message: str


@dataclass(frozen=True)
class ExpectedCell:
    """What the model expects."""

    class_: str
    owner: str
    area: str
    path: str
    ending: ExpectedEnding | None
    because: str
    reference: str


@dataclass(frozen=True)
class SubjectAtCell:
    """What the subject did: counts of adds, and of aborts of its critical section."""

    name: str
    path: str
    attempted: int | None
    committed: int | None
    aborts: int | None


@dataclass(frozen=True)
class CellResult:
    """One cell: observed, expected, judged."""

    id: str
    kernel: str
    libc: str
    link: str
    environment: str
    stage: str
    scenario: str
    sequence: int | None
    observed: Observation | None = field(metadata={CALLED: "what was observed"})
    expected: ExpectedCell = field(metadata={CALLED: "what was expected"})
    subject: SubjectAtCell = field(metadata={CALLED: "the subject"})
    result: str
    reason: str

    @property
    def observed_class(self) -> str | None:
        """Return the class that was observed; None where nothing was, or it could not be told."""
        return self.observed.class_ if self.observed else None


@dataclass(frozen=True)
class RunDocument:
    """One run. `complete` is false where it was interrupted."""

    schema: int
    complete: bool
    host: HostKernel = field(metadata={CALLED: "the host"})
    libcs: tuple[LibcOfRun, ...] = field(metadata={CALLED: "libc"})
    notes: tuple[str, ...] = field(metadata={CALLED: "note"})
    cells: tuple[CellResult, ...] = field(metadata={CALLED: "cell"})
    summary: Mapping[str, int]
