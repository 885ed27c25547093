"""What `verify` prints: a line for each phase and a summary line for each subject, and every defect in words."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from rseq_matrix.model.results import ERROR, FAIL, PASS, UNSUPPORTED
from rseq_matrix.verify.defects import NAMES
from rseq_matrix.verify.verification import TOTALS

COLOURS = {PASS: "green", FAIL: "bold red", ERROR: "bold red", UNSUPPORTED: "yellow"}
SHOWN = 8

Document = dict[str, Any]


def _word(word: str) -> tuple[str, str]:
    return f"{word:11} ", COLOURS.get(word, "bold")


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def summary_line(subject: Document) -> str:
    """Return the numbers of a subject: what was done with it, and what came of it."""
    return "  ".join(f"{name} {_number(subject['totals'][name])}" for name in TOTALS)


def _phase(console: Console, name: str, phase: Document) -> None:
    line = Text.assemble("  ", _word(phase["result"]), f"{name:14}", (f"{phase['seconds']:6.1f} s  ", "dim"))
    if phase["result"] in (ERROR, UNSUPPORTED):
        line.append(phase["reason"])
    elif phase["found"]:
        line.append(phase["found"]["said"])
    console.print(line, soft_wrap=True, highlight=False)


def _defects(console: Console, subject: Document) -> None:
    groups: dict[str, list[Document]] = {}
    for defect in subject["defects"]:
        groups.setdefault(defect["name"], []).append(defect)
    for name, defects in groups.items():
        console.print(Text.assemble("  ", (name, "bold red"), f": {NAMES[name]}"), soft_wrap=True)
        for defect in defects[:SHOWN]:
            console.print(Padding(Text(f"{defect['phase']}: {defect['sentence']}"), (0, 0, 0, 4)))
        if len(defects) > SHOWN:
            console.print(f"    ... and {len(defects) - SHOWN} more (--json FILE has them all)")


def show_subject(console: Console, subject: Document) -> None:
    """Print what was found of one subject."""
    title = Text.assemble(_word(subject["result"]), (subject["name"], "bold"), "  ", (subject["path"], "dim"))
    console.print(title, soft_wrap=True, highlight=False)
    for name, phase in subject["phases"].items():
        _phase(console, name, phase)
    _defects(console, subject)
    console.print(Text(f"  {summary_line(subject)}"), soft_wrap=True, highlight=False)


def show_verification(console: Console, document: Document, seconds: float) -> None:
    """Count the subjects."""
    summary = ", ".join(f"{count} {word}" for word, count in document["summary"].items() if count)
    subjects = len(document["subjects"])
    line = f"{subjects} subject{'s' * (subjects != 1)}: {summary or 'none was finished'}, in {seconds:.1f} s"
    console.print(line, highlight=False)
