"""What is known of one ELF file. Addresses are those of the file (before it is loaded), sizes are bytes.

The field names are those of the JSON document (schema/inspect-1.json): a file's entry there is `asdict()` of its facts.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TlsSegment:
    """PT_TLS (gABI, "Thread-Local Storage"): `size` in memory, of which the first `image_size` are in the file."""

    address: int
    size: int
    alignment: int
    image_size: int


@dataclass(frozen=True)
class ModelUse:
    """One TLS access model in use. `evidence` is "relocation" or "code"; `example` is a symbol or a place."""

    model: str
    evidence: str
    count: int
    example: str


@dataclass(frozen=True)
class Tls:
    """The file's thread-local storage."""

    segment: TlsSegment | None = None
    models: tuple[ModelUse, ...] = ()
    static_flag: bool = False  # DF_STATIC_TLS
    dynamic_accesses: tuple[CodePlace, ...] = ()  # calls of __tls_get_addr or a descriptor, where the code shows them
    static_symbols: tuple[str, ...] = ()  # undefined ones (name@version) of initial-exec relocations; "": own


@dataclass(frozen=True)
class CodePlace:
    """A place in the code. `function` encloses it, or "" where no symbol says so."""

    address: int
    function: str
    instruction: str


@dataclass(frozen=True)
class OrderedCall:
    """A function that the loader calls. `kind`: preinit_array, DT_INIT, init_array, fini_array, DT_FINI."""

    kind: str
    address: int
    function: str


@dataclass(frozen=True)
class Order:
    """Initialisation and termination functions, each list in the order of the calls."""

    start: tuple[OrderedCall, ...] = ()
    end: tuple[OrderedCall, ...] = ()


@dataclass(frozen=True)
class Audit:
    """DT_AUDIT and DT_DEPAUDIT; `exports` are the la_* functions that the file itself offers to the loader."""

    audit: tuple[str, ...] = ()
    depaudit: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()


@dataclass(frozen=True)
class IndirectSymbol:
    """An STT_GNU_IFUNC symbol; its address is that of the resolver."""

    name: str
    address: int
    exported: bool


@dataclass(frozen=True)
class Touch:
    """What code uses. `kind`: plt-call, got-load, tls, stack-protector, tls-get-addr; `what` is the symbol."""

    kind: str
    address: int
    instruction: str
    what: str
    canary_variable: bool = False  # stack-protector: the canary is a variable behind the GOT, not in the TCB
    relocation: str = ""  # got-load, plt-call: the type of the word's relocation
    always: bool = False  # on every path: before the first branch of the function, and of all that call it on the way


@dataclass(frozen=True)
class Code:
    """A function and what it touches, calls within the file included; not `complete`: a path was not followed."""

    address: int
    function: str
    touches: tuple[Touch, ...] = ()
    complete: bool = True


@dataclass(frozen=True)
class Indirect:
    """Indirect functions (STT_GNU_IFUNC) and what their resolvers touch. `irelative` counts IRELATIVE relocations.

    `thread_pointer_first`: whether a static program sets its thread pointer before it calls its resolvers; None for
    others, and where its code does not show it.
    """

    symbols: tuple[IndirectSymbol, ...] = ()
    irelative: int = 0
    resolvers: tuple[Code, ...] = ()
    thread_pointer_first: bool | None = None


@dataclass(frozen=True)
class Reference:
    """An undefined reference to __rseq_offset, __rseq_size or __rseq_flags. `binding`: weak, strong."""

    symbol: str
    binding: str
    version: str


@dataclass(frozen=True)
class OwnArea:
    """A thread-local rseq area of the file's own (`__rseq_abi`). `size` 0 where only a reference is known."""

    symbol: str
    size: int
    alignment: int  # what its address in the TLS segment guarantees
    defined: bool


@dataclass(frozen=True)
class RegistrationCall:
    """A system call rseq(2) in the code. What is not a constant there is None."""

    address: int
    function: str
    length: int | None
    flags: int | None
    signature: int | None


@dataclass(frozen=True)
class Write:
    """A store into an rseq area. `area`: "glibc" (thread pointer + __rseq_offset) or "own"; `value` where constant."""

    address: int
    function: str
    instruction: str
    area: str
    field: str
    value: int | None = None


@dataclass(frozen=True)
class RseqUse:
    """What the file does with restartable sequences, except its critical sections."""

    references: tuple[Reference, ...] = ()
    own_area: OwnArea | None = None
    registrations: tuple[RegistrationCall, ...] = ()
    writes: tuple[Write, ...] = ()
    examined: bool = True  # false: too much code to look for registrations and writes


@dataclass(frozen=True)
class SectionInstruction:
    """One instruction of a critical section.

    `mark`: "", "call", "system-call", "branch" (to a place that is neither inside nor the abort handler nor an exit
    point), "exit" (to the abort handler, an exit point or the section's end), "undecodable". `target` of a branch or
    call is None where it cannot be known.
    """

    address: int
    bytes: str
    text: str
    mark: str = ""
    target: int | None = None


@dataclass(frozen=True)
class Section:
    """A critical section (rseq(2), struct rseq_cs), relocations applied. Post-commit is start + length."""

    descriptor: int
    version: int
    flags: int
    start: int
    length: int
    abort: int
    function: str
    start_executable: bool
    post_commit_executable: bool
    abort_executable: bool
    abort_function: str
    signature: int | None  # the word before the abort handler, None where there is none
    exit_points: tuple[int, ...] = ()
    code: tuple[SectionInstruction, ...] = ()


@dataclass(frozen=True)
class Tables:
    """Entries in the sections that tell debuggers about critical sections; None where the file has no such section."""

    descriptors: int | None = None  # __rseq_cs
    pointers: int | None = None  # __rseq_cs_ptr_array
    exit_points: int | None = None  # __rseq_exit_point_array


@dataclass(frozen=True)
class CriticalSections:
    """All critical sections, and how the tables agree."""

    tables: Tables = field(default_factory=Tables)
    sections: tuple[Section, ...] = ()
    missing: tuple[int, ...] = ()  # descriptors without a pointer
    doubled: tuple[int, ...] = ()  # descriptors with more than one pointer
    foreign: tuple[int, ...] = ()  # pointers to what is no descriptor
    foreign_exits: tuple[tuple[int, int], ...] = ()  # (start, exit) where start is no section's start
    unlisted: tuple[CodePlace, ...] = ()  # abort signatures in the code that no descriptor leads to
    expected_signature: int = 0


@dataclass(frozen=True)
class Handler:
    """A function that the file gives to signal() or sigaction() as a handler."""

    code: Code
    installed_at: int
    certain: bool = True  # false: its address is formed before the call, and may be meant for something else


@dataclass(frozen=True)
class FileFacts:
    """All that is known of one file."""

    path: str
    machine: str
    kind: str  # executable, pie, shared-object, static, static-pie
    soname: str | None
    interpreter: str | None
    build_id: str | None
    needed: tuple[str, ...]
    binding: str  # lazy, now
    undefined: tuple[str, ...]  # functions and objects that others have to provide, strong references only
    tls: Tls = field(default_factory=Tls)
    order: Order = field(default_factory=Order)
    audit: Audit = field(default_factory=Audit)
    indirect: Indirect = field(default_factory=Indirect)
    handlers: tuple[Handler, ...] = ()
    rseq: RseqUse = field(default_factory=RseqUse)
    critical_sections: CriticalSections = field(default_factory=CriticalSections)
    no_open: bool = False  # DF_1_NOOPEN: dlopen() refuses it
    static_tls_alignment: int = 64  # the least alignment of a process's static TLS on this machine
    notes: tuple[str, ...] = ()  # what could not be examined, and why
