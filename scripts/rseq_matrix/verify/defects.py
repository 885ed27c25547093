"""What can be wrong with a subject: the names that reports, JSON and tests use."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

NAMES: dict[str, str] = {
    "unprotected-fast-path": "takes the fast path where the kernel protects nothing",
    "lost": "operations were lost",
    "doubled": "operations took effect more than once",
    "early-commit": "commits before the last instruction of its critical section",
    "not-retried": "an aborted operation is neither tried again nor done by the fallback",
    "doubled-after-abort": "an aborted operation takes effect more than once",
    "livelock": "tries for ever where every try is aborted",
    "not-reentrant": "fails where a signal handler that interrupts it uses it too",
    "fallback-not-atomic": "the fallback loses what others do at the same time",
    "not-atomic": "has no critical sections and loses what others do at the same time",
    "needs-tls": "uses TLS where that is not set up",
    "needs-relocation": "uses its GOT or PLT before its own relocations are done",
    "crash": "crashes",
    "hang": "does not come to an end",
    "not-loaded": "cannot be loaded",
    "not-linearizable": "its stacks are not last in, first out",
}
"""Every name, and what it says of the subject."""


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a subject."""

    name: str
    """One of NAMES."""
    phase: str
    """"stages", "interruptions", "stepping", "gdb", "stress" or "history"."""
    where: str
    """The place: a cell, or a section and an instruction, or the kind of process."""
    sentence: str
    """What was got and what was wanted."""

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(self.name)

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        return asdict(self)
