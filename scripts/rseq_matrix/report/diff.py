"""What `diff` prints: each kind of change once, with where it was seen. Rendered from its document."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from rseq_matrix.documents.diff import ComparedRun, DiffDocument, FieldChange, Value
from rseq_matrix.model.classes import HAZARDS
from rseq_matrix.model.stages import LINKS
from rseq_matrix.report.findings import clean
from rseq_matrix.report.simulate import links_word
from rseq_matrix.report.table import STYLES

NOT_OBSERVED = "not observed"
HEADINGS = {"class": "classes", "result": "results", "path": "paths of the subject"}
LISTED = 6
"""Cells up to which a changed field names them."""


def value_word(value: Value) -> str:
    """Return a value as it is shown."""
    return "null" if value is None else value if isinstance(value, str) else json.dumps(value)


def class_text(name: str | None) -> Text:
    """Return a class; a hazard is marked, not only coloured."""
    word = NOT_OBSERVED if name is None else f"{name} !" if name in HAZARDS else name
    return Text(clean(word), style=STYLES.get(name or "", "dim"))


def _class(value: Value) -> str | None:
    return None if value is None else str(value)


def places(cells: Sequence[str], axes: Sequence[str]) -> list[str]:
    """Return cells shortly: the links of the same stage, environment, libc and kernel together."""
    place = axes.index("link")
    found: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        parts = cell.split("/")
        found.setdefault((*parts[:place], *parts[place + 1 :]), []).append(parts[place])
    words = []
    for rest, links in found.items():
        name = "/".join(part for part in rest if part != "default")
        ordered = [link for link in LINKS if link in links] + [link for link in links if link not in LINKS]
        words.append(clean(f"{name} ({links_word(ordered)})"))
    return words


def _count(cells: Sequence[str], common: int) -> str:
    if len(cells) == common:
        return f"in all {common} cells" if common != 1 else "in the one cell"
    return f"in {len(cells)} cell{'s' * (len(cells) != 1)}"


def _side(console: Console, name: str, side: ComparedRun) -> None:
    libcs = ", ".join(f"{libc.id} ({(libc.build_id or 'no build id')[:12]})" for libc in side.libcs)
    host = side.host
    rseq = f"rseq {host.rseq}, feature size {value_word(host.feature_size)}, alignment {value_word(host.align)}"
    text = f"{side.path}: {libcs or 'no libc'}, Linux {host.release}, {rseq}, {side.cells} cells"
    console.print(Text.assemble((f"{name}  ", "bold"), clean(text)), highlight=False)
    if not side.complete:
        console.print(Text("     its run was interrupted: cells are missing", style="bold yellow"))


def _paragraph(console: Console, text: Text, left: int) -> None:
    console.print(Padding(text, (0, 0, 0, left)), highlight=False)


def _show_change(console: Console, change: FieldChange, document: DiffDocument, listed: set[tuple[str, ...]]) -> None:
    """Print a change and, if they are few or it is no mere field, its cells, unless the same have just been listed."""
    cells, count = change.cells, _count(change.cells, document.common)
    again = tuple(cells) in listed
    if again:
        count = f"in the same {len(cells)} cell{'s' * (len(cells) != 1)}"
    if change.field == "class":
        line = Text.assemble(class_text(_class(change.old)), " -> ", class_text(_class(change.new)), f" {count}")
    else:
        name = "" if change.field in HEADINGS else f"{change.field} "
        line = Text(clean(f"{name}{value_word(change.old)} -> {value_word(change.new)} {count}"))
    _paragraph(console, line, 2)
    if not again and (change.field in HEADINGS or len(cells) <= LISTED):
        listed.add(tuple(cells))
        _paragraph(console, Text(", ".join(places(cells, document.matched_by)), style="cyan"), 4)


def _show_missing(console: Console, heading: str, cells: Sequence[str], document: DiffDocument) -> None:
    if cells:
        console.print(Text(f"{heading}: {len(cells)}", style="bold"))
        _paragraph(console, Text(", ".join(places(cells, document.matched_by)), style="cyan"), 2)


def summary(document: DiffDocument) -> str:
    """Return the one line that counts."""
    counts = {"class": 0, "result": 0, "path": 0}
    fields: set[str] = set()
    for change in document.changes:
        if change.field in counts:
            counts[change.field] += len(change.cells)
        else:
            fields.update(change.cells)
    words = (
        f"{counts['class']} changed their class, {counts['result']} their result, {counts['path']} the path of the "
        f"subject, and {len(fields)} another field of what was observed"
    )
    missing = f"{len(document.added)} cells are new, and {len(document.vanished)} have vanished"
    return f"{document.common} cells are in both documents: {words}; {missing}"


def show_diff(console: Console, document: DiffDocument) -> None:
    """Print what changed, hazards marked, then count."""
    _side(console, "old", document.old)
    _side(console, "new", document.new)
    console.print()
    shown, listed = "", set[tuple[str, ...]]()
    for change in document.changes:
        heading = HEADINGS.get(change.field, "fields")
        if heading != shown:
            console.print(Text(heading, style="bold"))
            shown = heading
        _show_change(console, change, document, listed)
    _show_missing(console, "new cells", document.added, document)
    _show_missing(console, "vanished cells", document.vanished, document)
    if document.changes or document.added or document.vanished:
        console.print()
    console.print(summary(document), highlight=False)
