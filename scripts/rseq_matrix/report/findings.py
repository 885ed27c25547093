"""How a finding of a file or of a process's layout is shown, and how foreign text is made safe to print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:  # every report imports this module, and few have findings
    from rseq_matrix.documents.inspect import LintFinding
    from rseq_matrix.documents.layout import LayoutFinding

SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def clean(name: str) -> str:
    """Return a name without the characters that could control a terminal, and that XML does not allow."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def finding_text(finding: LintFinding | LayoutFinding) -> Text:
    """Return a finding as one line: severity, rule, place, sentence, reference."""
    head = (f"{finding.severity} {finding.id}", SEVERITY_STYLES[finding.severity])
    text = f", {clean(finding.where)}: {clean(finding.sentence)} "
    return Text.assemble(head, text, (f"[{finding.reference}]", "dim"))
