"""How a finding of a file or of a process's layout is shown, and how foreign text is made safe to print."""

from __future__ import annotations

from typing import Any

from rich.text import Text

SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def clean(name: str) -> str:
    """Return a name without the characters that could control a terminal, and that XML does not allow."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def finding_text(finding: dict[str, Any]) -> Text:
    """Return a finding as one line: severity, rule, place, sentence, reference."""
    head = (f"{finding['severity']} {finding['id']}", SEVERITY_STYLES[finding["severity"]])
    text = f", {clean(finding['where'])}: {clean(finding['sentence'])} "
    return Text.assemble(head, text, (f"[{finding['reference']}]", "dim"))
