"""TAP 13, https://testanything.org/tap-version-13-specification.html."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rseq_matrix.documents.run import CellResult, RunDocument
from rseq_matrix.model.results import PASS, UNSUPPORTED, XFAIL
from rseq_matrix.report.words import repeat


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("#", "\\#").replace("\n", " ")


def _point(number: int, cell: CellResult, document: RunDocument) -> Iterator[str]:
    result = cell.result
    word = "ok" if result in (PASS, XFAIL, UNSUPPORTED) else "not ok"
    directive = {UNSUPPORTED: f" # SKIP {_escaped(cell.reason)}", XFAIL: " # TODO expected failure"}.get(result, "")
    yield f"{word} {number} - {_escaped(cell.id)}{directive}"
    if word == "not ok":
        yield "  ---"
        for key, value in (("result", result), ("reason", cell.reason), ("repeat", repeat(cell, document))):
            yield f"  {key}: {json.dumps(value)}"
        yield "  ..."


def to_tap(document: RunDocument) -> str:
    """Return the document as TAP 13, one test point a cell."""
    lines = ["TAP version 13", f"1..{len(document.cells)}"]
    for number, cell in enumerate(document.cells, 1):
        lines += _point(number, cell, document)
    if not document.complete:
        lines.append("Bail out! interrupted")
    return "\n".join(lines) + "\n"
