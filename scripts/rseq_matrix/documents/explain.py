"""The document of `explain --json`, schema/explain-1.json."""

from __future__ import annotations

from dataclasses import dataclass

from rseq_matrix.documents.kernel import KernelFeatures

EXPLAIN_SCHEMA = 1


@dataclass(frozen=True)
class Replay:
    """The same calls, made in a child. `got` and `want` are answers: 0, an errno, a signal."""

    steps: tuple[str, ...]
    got: str
    cpu_id: int | None
    """In the area afterwards; None if it could not be read."""
    want: str
    agrees: bool


@dataclass(frozen=True)
class ProgramReplay:
    """A run of a program: what it printed, or the message that it ended with."""

    what: str
    got: str
    want: str
    agrees: bool


@dataclass(frozen=True)
class Cause:
    """A cause that an answer can have."""

    id: str
    by: str
    """"kernel", "elsewhere", or the name of a kernel that has such a rule."""
    sentence: str
    look: str
    cure: str | None
    reference: str
    replay: Replay | ProgramReplay | None


@dataclass(frozen=True)
class CureOfMessage:
    """What to do, and what that loses."""

    do: str
    loses: str
    trial: ProgramReplay | None


@dataclass(frozen=True)
class KnownArea:
    """An area that was registered before the call. Its length is in bytes."""

    address: int
    length: int
    signature: int


@dataclass(frozen=True)
class KnownCall:
    """What is known of the call; None is not known. Length and alignment are in bytes."""

    answer: str
    address: int | None
    align: int | None
    length: int | None
    flags: str | None
    signature: int | None
    registered: str | None
    area: KnownArea | None


@dataclass(frozen=True)
class KnownMessage:
    """A message that is recognized, and of what program or library it is."""

    id: str
    whose: str


@dataclass(frozen=True)
class Explanation:
    """One answer or message, explained."""

    schema: int
    kind: str
    form: str
    """"errno", "strace" or "message"."""
    text: str
    call: KnownCall | None
    message: KnownMessage | None
    causes: tuple[Cause, ...]
    cures: tuple[CureOfMessage, ...]
    notes: tuple[str, ...]
    kernel: KernelFeatures
    agrees: bool | None
    """Whether every replay agrees; None: none could be made."""


@dataclass(frozen=True)
class Explanations:
    """Several errnos, each explained."""

    schema: int
    kind: str
    explanations: tuple[Explanation, ...]
    agrees: bool | None
