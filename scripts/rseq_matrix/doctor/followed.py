"""What was seen of a program that was started for the doctor, and how far it was followed."""

from __future__ import annotations

from dataclasses import dataclass, field

from rseq_matrix.documents.doctor import END, LATE, ExaminedLibc, ExaminedThread, IdStores, ProgramRun, SeccompFilters

LAST_LINES = 6


@dataclass
class Followed:
    """What was seen of a program."""

    path: str
    pid: int = 0
    moment: str = ""
    """entry: stopped before its own code; tls: a stripped static program, after TLS was set up; end; time limit."""
    libc: ExaminedLibc | None = None
    threads: list[ExaminedThread] = field(default_factory=list)
    writes: tuple[IdStores, ...] = ()
    watched: bool = False
    seccomp: SeccompFilters | None = None
    exit_status: int | None = None
    killed_by: str | None = None
    output: str = ""
    static: bool = False
    secure: bool = False
    children: int = 0
    """Other processes that it started; they are not examined."""
    left: int = 0
    """Those of them that still ran when it had ended."""

    def run(self) -> ProgramRun:
        """Return what is known of its end, and of what it said last."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return ProgramRun(
            program=self.path,
            moment=self.moment,
            static=self.static,
            secure=self.secure,
            watched=self.watched,
            exit_status=self.exit_status,
            killed_by=self.killed_by,
            children=self.children,
            left=self.left,
            last_words=tuple(lines[-LAST_LINES:]) if self.moment in (END, LATE) else (),
        )
