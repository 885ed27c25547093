"""What a kernel answers to rseq(2): a part of the documents of `explain` and `doctor`."""

from __future__ import annotations

from dataclasses import dataclass

PRESENT = "present"
AS_ASKED = ("registered", "unregistered")
"""The rules by which a call does what was asked."""


@dataclass(frozen=True)
class KernelFeatures:
    """In what the rules of kernels differ. Sizes in bytes."""

    rseq: str
    """PRESENT, or what rseq(2) is answered with."""
    feature_size: int | None
    align: int | None
    flags: int
    """That a registration may have."""
    refuses_flags_at_unregistration: bool
    touches_area_at_registration: str
    """"leaves", "reads" or "writes"."""
    unwritable_area_at_unregistration: str
    """"EFAULT" or "SIGSEGV"."""


@dataclass(frozen=True)
class AnswerRow:
    """One call of the table: what came before it, what was answered, and what the model of the rules answers."""

    group: str
    what: str
    before: tuple[str, ...]
    call: str
    got: str
    cpu_id: int | None
    """In the area afterwards; None if it could not be read."""
    want: str
    rule: str | None
    """None: a seccomp filter answered."""
    because: str
    reference: str
    agrees: bool


@dataclass(frozen=True)
class AnswerTable:
    """The table, with the features that it is judged by."""

    features: KernelFeatures
    rows: tuple[AnswerRow, ...]
    agrees: bool
