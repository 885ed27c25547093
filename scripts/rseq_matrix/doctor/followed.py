"""What was seen of a program that was started for the doctor, and how far it was followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]

ENTRY, EARLY, END, LATE = "entry", "tls", "end", "time limit"
LAST_LINES = 6


@dataclass
class Followed:
    """What was seen of a program."""

    path: str
    pid: int = 0
    moment: str = ""
    """entry: it was held before its own code; tls: a stripped static program, after TLS was set up; end; time limit."""
    libc: Document | None = None
    threads: list[Document] = field(default_factory=list)
    writes: list[Document] = field(default_factory=list)
    watched: bool = False
    seccomp: Document | None = None
    exit_status: int | None = None
    killed_by: str | None = None
    output: str = ""
    static: bool = False
    secure: bool = False
    children: int = 0
    """Other processes that it started; nobody looks at them."""
    left: int = 0
    """Those of them that still ran when it had ended."""

    def document(self) -> Document:
        """Return what is known of its end, and of what it said last."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return {
            "program": self.path,
            "moment": self.moment,
            "static": self.static,
            "secure": self.secure,
            "watched": self.watched,
            "exit_status": self.exit_status,
            "killed_by": self.killed_by,
            "children": self.children,
            "left": self.left,
            "last_words": lines[-LAST_LINES:] if self.moment in (END, LATE) else [],
        }
