"""What `simulate` prints: a life event by event, or what differs between two designs. Rendered from its documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rseq_matrix.documents.simulate import (
    REGISTERING,
    DesignComparison,
    DesignDifference,
    DesignInWords,
    DesignList,
    DesignSide,
    LibcOfDesign,
    Life,
    SameStage,
    SimulatedEvent,
    SimulatedStage,
    StageInLink,
)
from rseq_matrix.model.classes import HAZARDS, MEANING
from rseq_matrix.model.stages import LINKS, STAGES
from rseq_matrix.report.table import STYLES, add_columns, unrelocated_words

InLink = StageInLink | SameStage | DesignDifference

NEVER = "never reached"
SELF_EVIDENT = ("not needed", "refused", "impossible")
"""Outcomes of a library's own registration that a row's class already tells."""
LETTERS = {"thread_pointer": "T", "kernel_registered": "K", "user_registered": "U"}
MEANING_OF_LETTERS = "T: the thread pointer is set; K: the kernel has an area of this thread; U: a library concludes so"
OWN = "registering itself"


# --- words that the text and the picture share


def class_word(name: str | None) -> str:
    """Return a class as it is shown: a hazard is marked, not only coloured."""
    return NEVER if name is None else f"{name} !" if name in HAZARDS else name


def links_word(links: Sequence[str]) -> str:
    """Return a set of links shortly."""
    for word, prefix in (("all", ""), ("dynamic", "dynamic"), ("static", "static")):
        if [link for link in LINKS if link.startswith(prefix)] == list(links):
            return word
    return ", ".join(links)


def groups(event: SimulatedEvent) -> list[tuple[SimulatedStage, list[str]]]:
    """Return the stages of an event in groups for which the same is true, each by its first one."""
    found: dict[tuple[str, ...], tuple[SimulatedStage, list[str]]] = {}
    for seen in event.stages:
        key = (seen.class_, seen.because, seen.own_registration.outcome, str(seen.relocated is False))
        mark = " *" if seen.relocated is False else ""
        found.setdefault(key, (seen, []))[1].append(f"{seen.stage}{mark}")
    return list(found.values())


def notes(event: SimulatedEvent, seen: SimulatedStage) -> Iterator[tuple[str, str]]:
    """Yield what is to be said of a group of stages beside its class, each with its reference."""
    if seen.because != event.explained.because:
        yield seen.because, seen.reference
    own = seen.own_registration
    if own.outcome not in SELF_EVIDENT:
        because = "" if own.outcome == "works" else f": {own.because}"
        yield f"{OWN}: {own.outcome}{because}", "" if own.outcome == "works" else own.reference


def rows(document: DesignComparison) -> list[tuple[str, list[str], DesignDifference]]:
    """Return a comparison's differences with the links for which the same holds put together: stage, links, cell."""
    found: dict[tuple[str, ...], tuple[str, list[str], DesignDifference]] = {}
    for cell in document.differences:
        sides = [text for side in cell.sides for text in (str(side.class_), side.because)]
        found.setdefault((cell.stage, *sides), (cell.stage, [], cell))[1].append(cell.link)
    return list(found.values())


class Reasons:
    """Numbers the distinct reasons in the order in which they are first needed."""

    def __init__(self) -> None:
        """Begin at 1."""
        self.numbers: dict[tuple[str, str], int] = {}

    def number(self, side: DesignSide) -> int:
        """Return the number of a side's reason."""
        return self.numbers.setdefault((side.because, side.reference), len(self.numbers) + 1)


def setting_words(document: Life | DesignComparison) -> str:
    """Return what surrounds the lives."""
    words = [f"environment {document.environment}", f"rseq(2) {document.kernel}"]
    if document.scenario:
        words.append(f"scenario {document.scenario}")
    return ", ".join(words)


def libc_words(libc: LibcOfDesign) -> str:
    """Return which libc was looked into."""
    return f"{libc.spec}: version {libc.version or 'unknown'}, build id {libc.build_id or 'unknown'}"


def counted(cells: Sequence[InLink]) -> str:
    """Count stages, and the links in which they are meant."""
    links = sorted(Counter(cell.stage for cell in cells).values())
    stages, most = len(links), links[-1]
    how_many = f"{most}" if links[0] == most else f"{links[0]} to {most}"
    return f"{stages} stage{'s' * (stages != 1)} in {how_many} link{'s' * (most != 1)}"


def stage_words(cells: Iterable[InLink], links: Sequence[str]) -> list[str]:
    """Return stages shortly: with their links only where a stage is not meant in all of them."""
    stages: dict[str, list[str]] = {}
    for cell in cells:
        stages.setdefault(cell.stage, []).append(cell.link)
    return [
        stage if [link for link in links if link in STAGES[stage].links] == found else f"{stage} ({links_word(found)})"
        for stage, found in stages.items()
    ]


def same_groups(document: DesignComparison) -> list[tuple[str | None, list[str]]]:
    """Return the stages whose class is the same in both designs, by class."""
    by_class: dict[str | None, list[SameStage]] = {}
    for cell in document.same:
        by_class.setdefault(cell.class_, []).append(cell)
    return [(name, stage_words(cells, document.links)) for name, cells in by_class.items()]


# --- a life


def _styled(name: str | None) -> Text:
    return Text(class_word(name), style=STYLES.get(name or "", "dim"))


def _letters(event: SimulatedEvent) -> Text:
    letters = [(letter, "bold green") if getattr(event, key) else ("-", "dim") for key, letter in LETTERS.items()]
    return Text.assemble(letters[0], " ", letters[1], " ", letters[2])


def _paragraph(console: Console, text: Text, left: int) -> None:
    console.print(Padding(text, (0, 0, 0, left)), highlight=False)


def _reason(because: str, reference: str) -> Text:
    return Text.assemble((because, "dim"), (f" [{reference}]" if reference else "", "dim italic"))


def _show_event(console: Console, event: SimulatedEvent) -> None:
    inner = 2 if event.begins else 0
    name = f"{event.event:{34 - inner}}"
    console.print(Text.assemble(" " * inner, _letters(event), "  ", (name, "bold"), _styled(event.class_)))
    _paragraph(console, _reason(event.because, event.reference), inner + 7)
    for seen, names in groups(event):
        line = Text.assemble(_styled(seen.class_), "  ", (", ".join(names), "cyan"))
        _paragraph(console, line, inner + 9)
        for because, reference in notes(event, seen):
            _paragraph(console, _reason(because, reference), inner + 11)


def _legend(console: Console, names: Iterable[str | None], unrelocated: str = "") -> None:
    """Explain the classes that were shown, and, if it was shown, the mark of a stage that is not relocated."""
    seen = set(names)
    console.print(Text("classes", style="bold"))
    for name, meaning in MEANING.items():
        if name in seen:
            line = Text.assemble((f"{class_word(name):14}", STYLES[name]), meaning)
            _paragraph(console, line, 2)
    if unrelocated:
        _paragraph(console, Text.assemble((f"{'*':14}", "bold"), unrelocated), 2)


def _show_facts(console: Console, design: DesignInWords) -> None:
    console.print(Text("the design", style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for fact in design.facts:
        table.add_row(fact.name, Text.assemble(fact.text, (f" [{fact.reference}]", "dim italic")))
    console.print(table, highlight=False)


def show_life(console: Console, document: Life) -> None:
    """Print a life event by event."""
    design = document.design
    _paragraph(console, Text.assemble((design.name, "bold"), f": {design.summary}"), 0)
    if document.libc:
        _paragraph(console, Text(f"found in {libc_words(document.libc)}"), 0)
    _paragraph(console, Text(f"{document.link}, {setting_words(document)}"), 0)
    _paragraph(console, Text(MEANING_OF_LETTERS, style="dim"), 0)
    console.print()
    for event in document.events:
        _show_event(console, event)
    if document.fatal:
        console.print()
        _paragraph(console, Text(f"the process ends: {document.fatal}", style="bold red"), 0)
        _paragraph(console, Text(f"{NEVER}: {', '.join(document.unreached)}"), 0)
    console.print()
    _show_facts(console, design)
    console.print()
    stages = [seen for event in document.events for seen in event.stages]
    names = [event.class_ for event in document.events] + [seen.class_ for seen in stages]
    marked = any(seen.relocated is False for seen in stages)
    _legend(console, names, unrelocated_words(design.symbol) if marked else "")


# --- a comparison


def _table(width: int, document: DesignComparison, reasons: Reasons) -> Table:
    first, second = (design.name for design in document.designs)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    add_columns(table, width, ("link", first, second), len(NEVER))
    table.add_column("why", no_wrap=True, style="dim")
    for carrier, members in groupby(rows(document), key=lambda row: STAGES[row[0]].carrier):
        table.add_row(Text(carrier, style="bold"))
        for stage, links, cell in members:
            sides = cell.sides
            why = " ".join(str(reasons.number(side)) for side in sides)
            classes = [_styled(side.class_) for side in sides]
            table.add_row(f" {STAGES[stage].hook}", links_word(links), *classes, why)
    return table


def _show_changes(console: Console, document: DesignComparison) -> None:
    first, second = (design.name for design in document.designs)
    console.print(Text(f"what changes from {first} to {second}", style="bold"))
    for change in document.changes:
        pair = [change.from_, change.to]
        cells = [cell for cell in document.differences if [side.class_ for side in cell.sides] == pair]
        line = Text.assemble(f"  {counted(cells)}  ", _styled(change.from_), " -> ", _styled(change.to))
        console.print(line, highlight=False)
    if not document.changes:
        console.print("  no stage's class", highlight=False)
    same = f"; the class of {counted(document.same)} is the same" if document.same else ""
    console.print(Text(f"  (links: {links_word(document.links)}{same})", style="dim"))


def _show_fact_table(console: Console, document: DesignComparison) -> None:
    if not document.facts:
        return
    console.print(Text("properties that differ", style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for design in document.designs:
        table.add_column(design.name, ratio=1, overflow="fold")
    for fact in document.facts:
        cells = []
        for side in fact.sides:
            text = Text.assemble(side.text, (f" [{side.reference}]", "dim italic")) if side else Text("-")
            cells.append(text)
        table.add_row(fact.name, *cells)
    console.print(table, highlight=False)
    console.print()


def _show_registering(console: Console, document: DesignComparison) -> None:
    """Tell it for each design: the outcome that most stages have comes last and is not listed."""
    console.print(Text("a library that registers its thread itself", style="bold"))
    for row in document.own_registration:
        _paragraph(console, Text(row.design, style="bold"), 2)
        *rare, (most, rest) = sorted(row.outcomes.items(), key=lambda item: len(item[1]))
        for outcome, cells in rare:
            _paragraph(console, Text.assemble((outcome, "bold"), f" ({REGISTERING[outcome]})"), 4)
            _paragraph(console, Text(", ".join(stage_words(cells, document.links)), style="cyan"), 6)
        where = f"everywhere{' else' if rare else ''}, {len(rest)}"
        _paragraph(console, Text.assemble((most, "bold"), f" ({REGISTERING[most]}): {where}"), 4)
    console.print()


def show_comparison(console: Console, document: DesignComparison) -> None:
    """Print the stages whose class differs between two designs, and why."""
    reasons = Reasons()
    for design in document.designs:
        _paragraph(console, Text.assemble((design.name, "bold"), f": {design.summary}"), 0)
    _paragraph(console, Text(setting_words(document), style="dim"), 0)
    console.print()
    _show_changes(console, document)
    console.print()
    if document.differences:
        console.print(_table(console.width, document, reasons))
        console.print()
        console.print(Text("why", style="bold"))
        for (because, reference), number in reasons.numbers.items():
            _paragraph(console, Text.assemble(f"{number}  ", because, (f" [{reference}]", "dim")), 2)
        console.print()
    if document.same:
        console.print(Text("the same in both", style="bold"))
        for name, words in same_groups(document):
            _paragraph(console, Text.assemble(_styled(name), "  ", (", ".join(words), "cyan")), 2)
        console.print()
    _show_registering(console, document)
    _show_fact_table(console, document)
    sides = [side.class_ for cell in document.differences for side in cell.sides]
    _legend(console, [*sides, *(cell.class_ for cell in document.same)])


def show_designs(console: Console, document: DesignList) -> None:
    """List the designs."""
    for design in document.designs:
        _paragraph(console, Text.assemble((design.name, "bold cyan"), f": {design.summary}"), 0)
        for fact in design.facts:
            line = Text.assemble((f"{fact.name}: ", ""), fact.text, (f" [{fact.reference}]", "dim italic"))
            _paragraph(console, line, 4)
        console.print()
