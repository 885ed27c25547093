"""What `verify` prints: a line for each phase and a summary line for each subject, and every defect in words."""

from __future__ import annotations

from dataclasses import fields

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from rseq_matrix.documents.verify import DEFECTS, Defect, PhaseResult, SubjectResult, SubjectTotals, VerifyDocument
from rseq_matrix.model.results import ERROR, FAIL, PASS, UNSUPPORTED

COLOURS = {PASS: "green", FAIL: "bold red", ERROR: "bold red", UNSUPPORTED: "yellow"}
SHOWN = 8
TOTALS = (
    "totals: operations {operations} (fast path {fast}, fallback {fallback}), aborts {aborts}, lost {lost}, "
    "doubled {doubled}, stages passed {stages}, instructions interrupted {instructions}"
)


def _word(word: str) -> tuple[str, str]:
    return f"{word:11} ", COLOURS.get(word, "bold")


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def summary_line(subject: SubjectResult) -> str:
    """Return the totals of a subject."""
    totals = {one.name: _number(getattr(subject.totals, one.name)) for one in fields(SubjectTotals)}
    untold = "; -: not known" if "-" in totals.values() else ""
    return TOTALS.format(**totals) + untold


def _phase(console: Console, name: str, phase: PhaseResult) -> None:
    line = Text.assemble("  ", _word(phase.result), f"{name:14}", (f"{phase.seconds:6.1f} s  ", "dim"))
    if phase.result in (ERROR, UNSUPPORTED):
        line.append(phase.reason)
    elif phase.found:
        line.append(phase.found.said)
    console.print(line, soft_wrap=True, highlight=False)


def _defects(console: Console, subject: SubjectResult) -> None:
    groups: dict[str, list[Defect]] = {}
    for defect in subject.defects:
        groups.setdefault(defect.name, []).append(defect)
    for name, defects in groups.items():
        console.print(Text.assemble("  ", (name, "bold red"), f": {DEFECTS[name]}"), soft_wrap=True)
        for defect in defects[:SHOWN]:
            console.print(Padding(Text(f"{defect.phase}: {defect.sentence}"), (0, 0, 0, 4)))
        if len(defects) > SHOWN:
            console.print(f"    ... and {len(defects) - SHOWN} more (--json FILE has them all)")


def show_subject(console: Console, subject: SubjectResult) -> None:
    """Print what was found of one subject."""
    title = Text.assemble(_word(subject.result), "subject ", (subject.name, "bold"), "  ", (subject.path, "dim"))
    console.print(title, soft_wrap=True, highlight=False)
    for name, phase in subject.phases.items():
        _phase(console, name, phase)
    _defects(console, subject)
    console.print(Text(f"  {summary_line(subject)}"), soft_wrap=True, highlight=False)


def show_verification(console: Console, document: VerifyDocument, seconds: float) -> None:
    """Count the subjects."""
    summary = ", ".join(f"{count} {word}" for word, count in document.summary.items() if count)
    subjects = len(document.subjects)
    what = "1 subject (a library under test)" if subjects == 1 else f"{subjects} subjects (libraries under test)"
    line = f"{what}: {summary or 'none was finished'}, in {seconds:.1f} s"
    console.print(line, highlight=False)
