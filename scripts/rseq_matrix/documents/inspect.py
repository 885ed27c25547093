"""The vocabulary of `inspect --json`, schema/inspect-1.json: the rules of the lint, and what they find."""

from __future__ import annotations

from dataclasses import dataclass

INSPECT_SCHEMA = 1

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class LintRule:
    """One rule. Its findings have one of the severities, and cite the reference."""

    id: str
    severities: tuple[str, ...]
    meaning: str
    reference: str


@dataclass(frozen=True)
class LintFinding:
    """One finding. `where` is a place in the file; the sentence says what is wrong, what is affected, what to do."""

    id: str
    severity: str
    where: str
    sentence: str
    reference: str
