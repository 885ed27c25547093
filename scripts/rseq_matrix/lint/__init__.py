"""The lint: rules that turn the facts of a file into findings, and the answers to five questions.

Pure functions: nothing here reads a file.
"""

from __future__ import annotations

from rseq_matrix.documents.inspect import SEVERITIES, LintFinding
from rseq_matrix.elf.facts import FileFacts
from rseq_matrix.lint import registration, resolvers, sections, tls
from rseq_matrix.lint.answers import answers
from rseq_matrix.lint.surplus import DEFAULT, Surplus

__all__ = ["answers", "judge"]


def judge(facts: FileFacts, surplus: Surplus = DEFAULT) -> list[LintFinding]:
    """Return all findings, errors first. `surplus` is that of the process that would open the file."""
    found = [*tls.judge(facts, surplus)]
    found += [finding for room in (resolvers, sections, registration) for finding in room.judge(facts)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
