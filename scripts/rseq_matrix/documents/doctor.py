"""What `rseq-matrix doctor` finds out: the document of schema/doctor-1.json.

None stands for what is not known. Sizes and lengths are in bytes, addresses are those of the process.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from rseq_matrix.documents.kernel import AnswerTable

SCHEMA = 1
HOST, PROCESS, COMMAND = "host", "process", "command"
"""What was examined (Examined.kind)."""
PRESENT, SUCCESS = "present", "success"
"""KernelBehaviour.rseq, if it is not the name of an errno: the kernel has rseq; something answers in its place."""
LEGACY, CHANGED_ONLY, V2 = "legacy", "changed-only", "v2"
"""The class of a kernel: doctor/kernel_behaviour.py explains them."""
GLIBC, OTHER, NONE, UNKNOWN = "glibc", "other", "none", "unknown"
"""Whose rseq area the kernel has registered for a thread (ExaminedThread.owner)."""
ENTRY, EARLY, END, LATE = "entry", "tls", "end", "time limit"
"""How far a program was followed (ProgramRun.moment). tls: a stripped static program, once its TLS was set up."""
ERROR, WARNING, NOTE = "error", "warning", "note"
"""The severities, gravest first. A note is no fault."""
TUNABLE = "glibc.pthread.rseq"


def errno_name(number: int) -> str:
    """Return the name of an error that rseq(2) is answered with."""
    return errno.errorcode.get(number, f"error {number}")


@dataclass(frozen=True)
class EventOutcomes:
    """What became of an overwritten cpu_id_start at each event: "rewritten", "kept", "killed" or "other"."""

    sleep: str | None
    signal: str | None
    migration: str | None
    """None where the thread may run on one CPU only."""


@dataclass(frozen=True)
class LengthBehaviour:
    """What a registration of one length was answered, and what became of an overwritten cpu_id_start afterwards."""

    length: int
    answer: int | None
    """The errno; 0 is success."""
    control: int | None
    """The errno of a query about no area: EINVAL from a kernel that has rseq."""
    registered: bool
    events: EventOutcomes
    killed_by: str | None
    flags: int | None
    slice_get: int | None
    """prctl(PR_RSEQ_SLICE_EXTENSION, GET): its value, or a negated errno."""
    slice_set: int | None
    """The errno of switching time slice extensions on."""
    class_: str | None


@dataclass(frozen=True)
class MembarrierBehaviour:
    """Whether membarrier(2) aborts critical sections on other CPUs."""

    offered: bool
    answer: int | None
    aborts: bool | None


@dataclass(frozen=True)
class SliceExtensions:
    """Whether the kernel knows time slice extensions, and for which lengths of an area it grants them."""

    known: bool | None
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class KernelBehaviour:
    """What the running kernel does with rseq."""

    release: str
    machine: str
    rseq: str
    refused_after_start: bool
    """This very program was registered when it started, and rseq(2) has been refused since."""
    feature_size: int | None
    align: int | None
    class_: str | None
    registrations: tuple[LengthBehaviour, ...]
    membarrier: MembarrierBehaviour
    slice_extension: SliceExtensions
    answers: AnswerTable | None = None
    """None where they were not asked for, or the kernel cannot be asked."""


@dataclass(frozen=True)
class TunableSetting:
    """GLIBC_TUNABLES, what it gives to glibc.pthread.rseq, and whether that is what rseq is on or off for."""

    text: str | None
    asked: str | None
    in_force: bool | None


@dataclass(frozen=True, kw_only=True)
class ExaminedLibc:
    """What libc says of rseq: __rseq_size, __rseq_offset, __rseq_flags; of the host's also its version and package."""

    version: str | None = None
    package: str | None = None
    tunable: TunableSetting | None = None
    preload: str | None = None
    size: int | None
    offset: int | None
    flags: int | None


@dataclass(frozen=True)
class ExaminedProcess:
    """Which process or program was examined."""

    pid: int | None
    program: str
    tunables: str | None
    """GLIBC_TUNABLES in its environment."""


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """How far a program that was started was followed, and how it ended."""

    program: str
    moment: str
    static: bool = False
    secure: bool = False
    """AT_SECURE is set: set-user-ID, or file capabilities."""
    watched: bool = False
    exit_status: int | None = None
    killed_by: str | None = None
    children: int = 0
    """Other processes that it started; they are not looked at."""
    left: int = 0
    """Those of them that still ran when it had ended."""
    last_words: tuple[str, ...] = ()
    """The last lines of its output."""


@dataclass(frozen=True)
class FilterAnswer:
    """What all seccomp filters of a thread together do with a registration: an action of seccomp(2)."""

    action: str
    errno: int | None

    @property
    def passes(self) -> bool:
        """Return whether the kernel gets the call."""
        return self.action in ("allow", "log")

    @property
    def fakes(self) -> bool:
        """Return whether the call is answered with success, and not made."""
        return self.action == "errno" and not self.errno


@dataclass(frozen=True)
class SeccompFilters:
    """The seccomp filters of a thread, the strictest of all threads that were looked at."""

    filters: int
    thread: str | None = None
    """The thread that has them, where the threads differ."""
    rseq: FilterAnswer | None = None
    unread: str | None = None
    """Why they could not be read."""


@dataclass(frozen=True)
class ExaminedThread:
    """What is registered for a thread, and what is in that area."""

    name: str
    tid: int | None = None
    owner: str = UNKNOWN
    object: str | None = None
    """In whose memory the area of another owner is."""
    address: int | None = None
    length: int | None = None
    signature: int | None = None
    cpu_id: int | None = None
    cpu_id_start: int | None = None
    believed: bool | None = None
    """A library that follows glibc's manual concludes that the thread is registered."""
    follows: bool | None = None
    """cpu_id changed when the thread was moved to another CPU."""
    sched_getcpu_follows: bool | None = None
    created: bool | None = None
    """False: it did not get to its first instruction."""

    @property
    def lost_area(self) -> bool:
        """Return whether the memory of the registered area is gone: unmapped since."""
        return bool(self.address) and self.cpu_id is None


@dataclass(frozen=True)
class IdStores:
    """How often the code of an object stored into the ids, which only the kernel may write."""

    object: str
    count: int


@dataclass(frozen=True)
class LaterLibrary:
    """A library of --loads: whether its TLS fits into the surplus of static TLS, and if not, why."""

    path: str
    fits: bool
    sentence: str | None


@dataclass(frozen=True, kw_only=True)
class Examined:
    """The facts, before they are judged."""

    schema: int = SCHEMA
    kind: str
    kernel: KernelBehaviour | None = None
    libc: ExaminedLibc | None = None
    process: ExaminedProcess | None = None
    run: ProgramRun | None = None
    seccomp: SeccompFilters | None = None
    threads: tuple[ExaminedThread, ...] = ()
    writes: tuple[IdStores, ...] = ()
    libraries: tuple[LaterLibrary, ...] = ()
    watched: bool = False
    """A debug register watched the ids."""
    untraced: str | None = None
    """Why nothing could be traced."""


@dataclass(frozen=True)
class DoctorFinding:
    """One thing to tell an operator: what is wrong, what to do about it, and where that is documented."""

    id: str
    severity: str
    sentence: str
    advice: str
    reference: str


@dataclass(frozen=True)
class HealthVerdict:
    """Whether anything is wrong: notes do not count."""

    healthy: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Examination(Examined):
    """The document: the facts, the findings from them (gravest first), and the verdict."""

    findings: tuple[DoctorFinding, ...]
    verdict: HealthVerdict
