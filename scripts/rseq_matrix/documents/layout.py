"""Where the static TLS of a process's threads lies: the document of `inspect --layout/--process`, schema/layout-1.json.

None stands for what is not known. Offsets are bytes from the thread pointer, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

LAYOUT_SCHEMA = 1
TLS, TCB, RSEQ, EXTRA, PADDING = "tls", "tcb", "rseq", "extra-tls", "padding"
"""What a block is (Block.kind)."""
IN_PTHREAD, IN_EXTRA, OWN, NONE, UNKNOWN = "struct pthread", "extra TLS", "own", "none", "unknown"
"""Where the rseq area is (LaidOutRseq.where). OWN: in memory of the code that registered it; NONE: nobody uses it."""
FAR = 1 << 30
"""More than any static TLS: a block that is further away is not part of it."""
ERROR, WARNING, NOTE = "error", "warning", "note"
"""The severities, gravest first. A note is no fault."""


@dataclass(frozen=True)
class Block:
    """A piece of memory; `size` is None where its end is not known."""

    name: str
    kind: str
    offset: int
    size: int | None
    alignment: int
    phase: int = 0
    """What the address leaves when divided by the alignment: p_vaddr % p_align of a TLS segment."""
    dtv_offset: int | None = None
    """The offset that the thread's dtv gives, of a TLS block."""

    @property
    def end(self) -> int:
        """Return the offset behind the last byte that is known to belong to it."""
        return self.offset + (self.size or 0)

    @property
    def near(self) -> bool:
        """Return whether it can be part of static TLS."""
        return abs(self.offset) < FAR


@dataclass(frozen=True)
class KernelArea:
    """The rseq area that the kernel has registered; its address is the process's."""

    address: int
    size: int
    signature: int
    flags: int


@dataclass(frozen=True)
class StructPthread:
    """struct pthread in DWARF: its size; the rseq member's name and offset, or None from glibc 2.41 on."""

    file: str
    size: int
    member: str | None
    offset: int | None


@dataclass(frozen=True)
class LaidOutRseq:
    """The rseq area of a thread: libc's where that is in use or nobody's is, else the one that the kernel has."""

    offset: int
    size: int
    alignment: int
    """That the area must have."""
    feature_size: int | None
    """__rseq_size."""
    flags: int | None
    """__rseq_flags."""
    kernel: KernelArea | None
    """None: nothing is registered, or `unasked` says why the kernel could not be asked."""
    unasked: str | None
    cpu_id: int | None
    """In the area at `offset`; None if it could not be read."""
    where: str
    dwarf: StructPthread | None


@dataclass(frozen=True)
class LaidOutThread:
    """A thread: its blocks by offset, none where the thread pointer is not set or is not libc's."""

    tid: int
    thread_pointer: int
    starting: bool
    """It was new, and had not registered its rseq area yet."""
    blocks: tuple[Block, ...]
    rseq: LaidOutRseq | None


@dataclass(frozen=True)
class LayoutFinding:
    """One finding: what is wrong or cannot be shown, what documents it, and the threads that it is true for."""

    id: str
    severity: str
    sentence: str
    reference: str
    where: str


@dataclass(frozen=True, kw_only=True)
class LayoutDocument:
    """The document: the threads of a process at one moment, and the findings from them."""

    schema: int = LAYOUT_SCHEMA
    program: str
    pid: int
    moment: str
    """layout/started.py and layout/picture.py: where the process was stopped."""
    threads: tuple[LaidOutThread, ...]
    elsewhere: tuple[str, ...]
    """Modules whose TLS is outside static TLS, allocated when first used."""
    findings: tuple[LayoutFinding, ...]
