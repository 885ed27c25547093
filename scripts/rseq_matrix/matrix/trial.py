"""What a subject of verify's does at a stage: the plan that the probes follow, and its result."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from rseq_matrix._native import lib
from rseq_matrix.documents.stage_trial import StageTrial
from rseq_matrix.errors import InputError
from rseq_matrix.model.stages import STAGES

PROGRESS = {
    lib.RSM_TRIAL_NONE: "not begun",
    lib.RSM_TRIAL_SEARCHED: "searched",
    lib.RSM_TRIAL_SUM_BEFORE: "rsm_subject_sum",
    lib.RSM_TRIAL_ADD: "rsm_subject_add",
    lib.RSM_TRIAL_SUM_AFTER: "rsm_subject_sum",
    lib.RSM_TRIAL_OTHER_SUMS: "rsm_subject_sum",
    lib.RSM_TRIAL_DONE: "done",
}
RELOCATED = {0: False, 1: True, 2: None}
NEEDED_NAME = "rsm_subject.so"
"""By which objects in other namespaces need it (csrc/CMakeLists.txt), and ld.so finds it for a secure program."""


NAMES = {stage.number: name for name, stage in STAGES.items()}


def decode_trial(raw: Any) -> StageTrial:
    """Read a struct rsm_trial of csrc/record_layout.h."""
    done = raw.progress == lib.RSM_TRIAL_DONE
    return StageTrial(
        progress=PROGRESS[raw.progress],
        copies=raw.copies,
        usable=bool(raw.usable),
        relocated=RELOCATED[raw.relocated],
        attempted=raw.attempted,
        committed=raw.committed,
        fast=raw.fast,
        fallback=raw.fallback,
        aborts=raw.aborts,
        books=raw.books,
        wrong=NAMES.get(raw.wrong) if done else None,
        want=raw.want,
        got=raw.got,
        stepped=raw.stepped,
        stepped_limited=raw.stepped_limited,
        stepped_most=raw.stepped_most,
        stepped_commits=raw.stepped_commits,
        stepped_aborts=raw.stepped_aborts,
        stepped_section=raw.stepped_section,
        stepped_at=raw.stepped_at,
        stepped_watched=raw.stepped_watched,
    )


@dataclass(frozen=True)
class SubjectPlan:
    """Which subject the probes let work, for the log."""

    path: str = ""
    """A shared object as /proc/PID/maps shows it, in dynamic links."""
    linked: int | None = None
    """The number of a built-in subject, in static links."""
    adds: int = 2000
    """At each stage."""
    sections: tuple[tuple[int, int], ...] = ()
    """Start and end of its critical sections, relative to where it is loaded."""
    watched: tuple[int, ...] = ()
    """Addresses of instructions, likewise."""


def write_plan(log: Any, subject: SubjectPlan) -> None:
    """Write into a struct rsm_log what the probes shall let work. Raises InputError where the path is too long."""
    path = os.fsencode(subject.path)
    if len(path) >= lib.RSM_SUBJECT_PATH_SIZE:
        raise InputError(f"{subject.path}: the path is too long")
    log.source = lib.RSM_SOURCE_OBJECT if subject.linked is None else lib.RSM_SOURCE_LINKED
    log.linked = subject.linked or 0
    log.adds = subject.adds
    log.subject_path = path
    log.section_count = min(len(subject.sections), lib.RSM_SECTIONS_MAX)
    log.watched_count = len(subject.watched)
    for index, address in enumerate(subject.watched):
        log.watched[index] = address
    for place, section in zip(log.section, subject.sections, strict=False):
        place.start, place.end = section
