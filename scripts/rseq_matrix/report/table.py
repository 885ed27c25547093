"""The tables and the words that a person sees, drawn with rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rseq_matrix.documents.run import CellResult, RunDocument
from rseq_matrix.model.classes import BLIND, DEAD, HAZARDS, HIDDEN, MEANING, REGISTERED, STALE, UNREGISTERED
from rseq_matrix.model.results import PASS, UNSUPPORTED, XFAIL
from rseq_matrix.model.stages import ALLOWANCES, LINKS, STAGES, Stage
from rseq_matrix.report.words import ADVICE, hazards, repeat, speed, summary

STYLES = {
    REGISTERED: "green",
    UNREGISTERED: "yellow",
    BLIND: "magenta",
    HIDDEN: "cyan",
    STALE: "bold red",
    DEAD: "bold red",
}
ABSENT = Text("-", style="dim")
NARROW = 12
"""Columns that a stage's name has where all must be folded."""

SHOWN_PROBLEMS = 20

OFFSET = "__rseq_offset"


def unrelocated_words(symbol: str | None) -> str:
    """Explain the mark of a stage whose object is not relocated. symbol: by which a library finds the area."""
    misled = f": a library that names {symbol} finds nothing in its GOT" if symbol else ""
    return f"the object is not relocated yet{misled}"


ALLOWANCE_MEANING = {
    "raw": "may use raw system calls only: own relocations and the thread pointer may be missing",
    "relocated": "may use its own functions and data; libc is not initialized, not re-entrant or not this thread's",
    "libc": "may use libc (in a signal handler and in a vfork child what is async-signal-safe)",
}


class _Reasons:
    """Numbers the distinct reasons in the order in which they are first needed."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str], int] = {}

    def number(self, cell: CellResult) -> int:
        expected = cell.expected
        return self.numbers.setdefault((expected.because, expected.reference), len(self.numbers) + 1)

    def lines(self) -> Iterator[Text]:
        for (because, reference), number in self.numbers.items():
            yield Text.assemble(f"{number}  {because} ", (f"[{reference}]", "dim"))


def _verdict(cell: CellResult) -> Text:
    """Return the class, marked where it is a hazard, or what went wrong. Colour is never the only sign."""
    name = cell.observed_class
    if cell.result == UNSUPPORTED:
        return Text("unsupported", style="dim")
    if cell.result == XFAIL:
        return Text(f"ends {cell.expected.ending.signal if cell.expected.ending else ''}", style="yellow")
    if cell.result != PASS:
        seen = f" {name}" if name and name != cell.expected.class_ else ""
        return Text(f"{cell.result}{seen}", style="bold white on red")
    mark = " !" if name in HAZARDS else " *" if cell.observed and not cell.observed.relocated else ""
    return Text(f"{name}{mark}", style=STYLES.get(name or "", ""))


def _group(cell: CellResult) -> tuple[str, str]:
    return cell.libc, cell.environment


def _why(row: dict[str, CellResult], reasons: _Reasons) -> str:
    numbers = dict.fromkeys(reasons.number(row[link]) for link in LINKS if link in row)
    return " ".join(map(str, numbers))


def add_columns(table: Table, width: int, heads: Sequence[str], narrowest: int) -> None:
    """Give a table a column for the stage and others for classes. A long name is folded, a class only in need.

    width: of the terminal; narrowest: what a class needs.
    """
    folded = width < NARROW + (narrowest + 1) * len(heads) + len("why  ")
    table.add_column("stage", overflow="fold", width=NARROW if folded else None)
    for head in heads:
        if folded:
            table.add_column(head, overflow="fold")
        else:
            table.add_column(head, no_wrap=True, min_width=narrowest)


def _matrix(width: int, title: str, cells: list[CellResult], reasons: _Reasons) -> Table:
    links = [link for link in LINKS if any(cell.link == link for cell in cells)]
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    add_columns(table, width, links, len("unregistered"))
    table.add_column("why", no_wrap=True, min_width=4, style="dim")
    rows: dict[str, dict[str, CellResult]] = {}
    for cell in cells:
        rows.setdefault(cell.stage, {})[cell.link] = cell
    ordered = [(name, rows[name]) for name in STAGES if name in rows]
    for carrier, members in groupby(ordered, key=lambda row: STAGES[row[0]].carrier):
        table.add_row(Text(carrier, style="bold"))
        for name, row in members:
            verdicts = [_verdict(row[link]) if link in row else ABSENT for link in links]
            table.add_row(f" {STAGES[name].hook}", *verdicts, _why(row, reasons))
    return table


def _legend(cells: Sequence[CellResult]) -> Iterator[Text]:
    seen = {cell.observed_class for cell in cells}
    for name, meaning in MEANING.items():
        if name in seen:
            yield Text.assemble((name, STYLES[name]), " " * (14 - len(name)), meaning)
    if any(cell.observed and not cell.observed.relocated for cell in cells):
        yield Text.assemble(("*", "bold"), " " * 13, unrelocated_words(OFFSET))


def show_tables(console: Console, document: RunDocument) -> None:
    """Draw a table for each libc and environment, then the reasons that its last column numbers."""
    reasons = _Reasons()
    host = document.host
    where = f"Linux {host.release}, rseq {host.rseq}"
    if host.feature_size:
        where += f" (feature size {host.feature_size}, alignment {host.align})"
    for (libc, environment), cells in groupby(sorted(document.cells, key=_group), key=_group):
        console.print(_matrix(console.width, f"{libc}, environment {environment}, {where}", list(cells), reasons))
        console.print()
    for heading, lines in (("why", reasons.lines()), ("classes", _legend(document.cells))):
        console.print(Text(heading, style="bold"))
        for line in lines:
            console.print(Padding(line, (0, 0, 0, 2)))
        console.print()


def show_hazards(console: Console, document: RunDocument) -> None:
    """Say in words where a library is misled."""
    found = hazards(document.cells)
    if not found:
        return
    console.print(Text("hazards", style="bold"))
    for sentence, places in found:
        console.print(Padding(Text.assemble(("! ", "bold red"), sentence, (f"  ({', '.join(places)})", "dim")), (0, 2)))
    for name, advice in ADVICE.items():
        if any(cell.observed_class == name for cell in document.cells):
            console.print(Padding(Text(f"{name}: {advice}; use the fallback there", style="dim"), (0, 2)))
    console.print()


def show_problems(console: Console, document: RunDocument) -> None:
    """Say what is not as expected, and how to repeat it."""
    problems: dict[str, list[CellResult]] = {}
    for cell in document.cells:
        if cell.result not in (PASS, UNSUPPORTED):
            problems.setdefault(cell.reason, []).append(cell)
    for reason, (cell, *more) in list(problems.items())[:SHOWN_PROBLEMS]:
        also = f" (and {len(more)} more)" if more else ""
        style = "yellow" if cell.result == XFAIL else "bold red"
        console.print(Text.assemble((cell.result, style), f" {cell.id}{also}: {reason}"), soft_wrap=True)
        console.print(Text(f"  repeat: {repeat(cell, document)}", style="dim"), soft_wrap=True)
    if len(problems) > SHOWN_PROBLEMS:
        console.print(f"... and {len(problems) - SHOWN_PROBLEMS} more reasons (--json FILE has them all)")
    unsupported = {cell.reason for cell in document.cells if cell.result == UNSUPPORTED}
    for reason in sorted(unsupported):
        console.print(Text.assemble(("UNSUPPORTED", "bold"), f" {reason}"), soft_wrap=True)


def show_summary(console: Console, document: RunDocument, seconds: float) -> None:
    """Count, and say how to repeat one cell."""
    for note in document.notes:
        console.print(Text.assemble(("note: ", "bold"), note), soft_wrap=True)
    console.print(f"{summary(document)}, in {speed(len(document.cells), seconds)}", highlight=False)
    if document.cells:
        example = next((c for c in document.cells if c.result != PASS), document.cells[0])
        console.print(f"repeat one cell: {repeat(example, document)}", highlight=False, soft_wrap=True)


def _stage_row(stage: Stage) -> tuple[str, ...]:
    links = "all" if len(stage.links) == len(LINKS) else "dynamic"
    return f" {stage.hook}", stage.phase, links, stage.may


def show_stages(console: Console) -> None:
    """List the stages with their phase, what may be used there and, on a line of its own, what fires each."""
    for carrier, stages in groupby(STAGES.values(), key=lambda stage: stage.carrier):
        console.print(Text(carrier, style="bold"))
        for stage in stages:
            hook, *rest = _stage_row(stage)
            console.print(Text.assemble((f"{hook:28}", "cyan"), "{:22}{:9}{}".format(*rest)))
            console.print(Padding(Text(stage.fires, style="dim"), (0, 0, 0, 4)))
    console.print()
    for name in ALLOWANCES.values():
        console.print(Text.assemble((f"{name:11}", "bold"), ALLOWANCE_MEANING[name]))
    console.print(Text.assemble(("binding    ", "bold"), "during relocation; where binding is lazy, at the first call"))
