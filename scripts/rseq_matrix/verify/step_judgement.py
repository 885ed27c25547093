"""The judgement on a single-stepped operation, in a sentence: the row of the table that takes it."""

from __future__ import annotations

from collections import Counter

from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.cases import SteppedCase
from rseq_matrix.verify.decision_table import DecisionRow, decide_stepped
from rseq_matrix.verify.naming import Instructions, section_name
from rseq_matrix.verify.subject import Subject


def judge_stepped(case: SteppedCase, **words: object) -> tuple[DecisionRow[SteppedCase], str]:
    """Return the row that takes a case, and its sentence; `words` are those of the sentence that the case lacks."""
    row = decide_stepped(case)
    return row, row.because.format(**{"aborts": case.aborts, "crash": case.crash, **words})


def most_aborted(subject: Subject, aborts: Counter[tuple[Section, int]]) -> tuple[str, int]:
    """Return where a section was aborted most often, and how many times; ("", 0) where none was."""
    for (section, address), times in aborts.most_common(1):
        return f"{section_name(section)}, {Instructions(subject).name(address)}", times
    return "", 0
