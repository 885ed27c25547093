"""What a subject did at a stage, as the probes' log and the document of `verify` hold it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageTrial:
    """What a subject did at one stage (struct rsm_trial of csrc/record_layout.h). Counts are adds, or as said."""

    progress: str
    """What it was in when the record was looked at: "done", or the function that did not return."""
    copies: int
    """Of the subject, in the process."""
    usable: bool
    relocated: bool | None
    attempted: int
    committed: int
    fast: int
    fallback: int
    aborts: int
    books: int
    """Stages whose sums were compared, this one included."""
    wrong: str | None
    """The first stage whose sum was not what had been added in this process."""
    want: int
    got: int
    stepped: int
    stepped_limited: int
    stepped_most: int
    """Single steps of one add."""
    stepped_commits: int
    stepped_aborts: int
    stepped_section: int
    stepped_at: int
    """Relative to where the subject is loaded; only if a section was entered."""
    stepped_watched: int
    """A bit for each of the plan's watched instructions that was executed."""
