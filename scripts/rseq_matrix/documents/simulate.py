"""The documents of `simulate --json`, schema/simulate-1.json: a life, a comparison, and the list of designs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rseq_matrix.documents.plain import optional

SIMULATE_SCHEMA = 1

REGISTERING = {
    "not needed": "registered, and the library sees it",
    "refused": "the kernel has an area of this thread already, and answers EINVAL or EBUSY",
    "reserved": "__rseq_handled says that libc will do it: a library waits, with its fallback",
    "works": "nobody else registers this thread, or libc goes on with the same area",
    "takes it": "it works, but libc's own registration then fails, and the program does not see the area",
    "fatal": "it works, and libc ends the process when it comes to register",
    "impossible": "rseq(2) registers nothing here",
}
"""The outcomes of a library's own registration, with the meaning of each word."""


@dataclass(frozen=True)
class Property:
    """A property of a design, in words."""

    name: str
    text: str
    reference: str


@dataclass(frozen=True)
class DesignInWords:
    """A design. `symbol`: by which a library finds the area; None where there is none."""

    name: str
    summary: str
    symbol: str | None
    facts: tuple[Property, ...]


@dataclass(frozen=True)
class OwnRegistration:
    """The outcome for a library that registers its thread itself: a word of REGISTERING, and why."""

    outcome: str
    because: str
    reference: str


@dataclass(frozen=True)
class SimulatedStage:
    """A stage, and the state that its code sees."""

    stage: str
    scenario: str
    thread_pointer: bool
    kernel_registered: bool
    user_registered: bool
    class_: str
    owner: str
    because: str
    reference: str
    relocated: bool | None
    critical_section: str | None
    own_registration: OwnRegistration


@dataclass(frozen=True)
class Reason:
    """Why a state is what it is."""

    because: str
    reference: str


@dataclass(frozen=True)
class SimulatedEvent:
    """An event, the state after it, and the stages there. `begins`: the event with which another task begins."""

    event: str
    begins: str | None
    because: str
    reference: str
    thread_pointer: bool
    kernel_registered: bool
    user_registered: bool
    class_: str
    owner: str
    explained: Reason
    stages: tuple[SimulatedStage, ...]


@dataclass(frozen=True)
class LibcOfDesign:
    """The libc that a design was found in, and how it was asked for."""

    spec: str
    version: str | None
    build_id: str | None


@dataclass(frozen=True)
class Life:
    """The life of a process under a design."""

    schema: int
    kind: str
    environment: str
    kernel: str
    """What rseq(2) answers."""
    scenario: str | None
    design: DesignInWords
    link: str
    events: tuple[SimulatedEvent, ...]
    fatal: str | None
    """What libc says when it ends the process."""
    unreached: tuple[str, ...]
    libc: LibcOfDesign | None = optional()


@dataclass(frozen=True)
class DesignSide:
    """A stage under one of two designs; the class is None where the process has ended before."""

    class_: str | None
    owner: str | None
    because: str
    reference: str
    own_registration: OwnRegistration | None


@dataclass(frozen=True)
class DesignDifference:
    """A stage in a link, under both designs."""

    stage: str
    link: str
    sides: tuple[DesignSide, ...]


@dataclass(frozen=True)
class SameStage:
    """A stage in a link whose class is the same under both designs."""

    stage: str
    link: str
    class_: str | None


@dataclass(frozen=True)
class StageInLink:
    """A stage in a link."""

    stage: str
    link: str


@dataclass(frozen=True)
class ClassChange:
    """How many cells change from one class to another."""

    from_: str | None
    to: str | None
    cells: int


@dataclass(frozen=True)
class RegisteringLibrary:
    """The outcomes for a library that registers itself, under a design: outcome and stages."""

    design: str
    outcomes: Mapping[str, tuple[StageInLink, ...]]


@dataclass(frozen=True)
class PropertySide:
    """A property under one design."""

    text: str
    reference: str


@dataclass(frozen=True)
class PropertyOfBoth:
    """A property that is not the same under both designs; None where a design has no such."""

    name: str
    sides: tuple[PropertySide | None, ...]


@dataclass(frozen=True)
class DesignComparison:
    """Two designs, compared by the classes of the stages."""

    schema: int
    kind: str
    environment: str
    kernel: str
    scenario: str | None
    designs: tuple[DesignInWords, ...]
    links: tuple[str, ...]
    changes: tuple[ClassChange, ...]
    differences: tuple[DesignDifference, ...]
    same: tuple[SameStage, ...]
    own_registration: tuple[RegisteringLibrary, ...]
    facts: tuple[PropertyOfBoth, ...]


@dataclass(frozen=True)
class DesignList:
    """All designs."""

    schema: int
    kind: str
    designs: tuple[DesignInWords, ...]
