"""The subject at every stage of the matrix, in the processes that also use it at all other stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from rseq_matrix.build import Build
from rseq_matrix.elf.critical import critical_sections
from rseq_matrix.elf.facts import Section
from rseq_matrix.elf.flow import Program
from rseq_matrix.elf.image import Image
from rseq_matrix.errors import UsageError
from rseq_matrix.judge import (
    ERROR,
    FAIL,
    PASS,
    RESULTS,
    UNSUPPORTED,
    kernel_registered,
    observed_class,
    speaks_for_bad_end,
)
from rseq_matrix.matrix import SCENARIOS, Cell, Process, all_cells, processes, select
from rseq_matrix.registry import LINKS, STAGES
from rseq_matrix.run import Finding, Options, Runner
from rseq_matrix.session import Run
from rseq_matrix.trial import SubjectPlan, Trial
from rseq_matrix.verify.defects import Defect
from rseq_matrix.verify.subject import Subject

PHASE = "stages"
ENVIRONMENTS = ("default", "tunable-off")
FIRST = "executable.main"
TIME_LIMIT = 10.0
HANGS = 3
"""So many cells that hang are enough: the rest would take minutes."""
ADDS = 2000
MAY_LIBC = "libc"
TLS_TOUCHES = frozenset({"tls", "tls-get-addr"})
RELOCATED_TOUCHES = frozenset({"plt-call", "got-load"})
UNPROTECTED = {
    "blind": "no thread pointer is set",
    "unregistered": "no area is registered",
    "stale": "the area looks registered and is not",
}


@dataclass(frozen=True)
class Verdict:
    """What is said of one cell."""

    cell: Cell
    observed: str | None
    """The class."""
    trial: Trial | None
    result: str
    reason: str = ""
    defect: Defect | None = None

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        return {
            "id": self.cell.id,
            "stage": self.cell.stage,
            "class": self.observed,
            "trial": asdict(self.trial) if self.trial else None,
            "result": self.result,
            "defect": self.defect.name if self.defect else None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Stages:
    """The phase's result."""

    verdicts: tuple[Verdict, ...] = ()
    skipped: str = ""
    """Why not all cells were run: the subject does not even work in main()."""

    @property
    def defects(self) -> tuple[Defect, ...]:
        """Return what was found, an entry for each name and stage: links and environments share it."""
        found: dict[tuple[str, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            if verdict.defect:
                found.setdefault((verdict.defect.name, verdict.cell.stage), []).append(verdict)
        return tuple(_joined([v.defect for v in group if v.defect]) for group in found.values())

    @property
    def problems(self) -> tuple[Verdict, ...]:
        """Return the cells that could not be observed, for a reason that is not the subject's."""
        return tuple(verdict for verdict in self.verdicts if verdict.result == ERROR)

    @property
    def unsupported(self) -> str:
        """Say why no cell could be run on this machine; empty if one could."""
        reasons = [verdict.reason for verdict in self.verdicts if verdict.result == UNSUPPORTED]
        return reasons[0] if len(reasons) == len(self.verdicts) else ""

    @property
    def problem(self) -> str:
        """Say what could not be observed; empty if all could."""
        found = self.problems
        more = f" (and {len(found) - 1} more cells)" if len(found) > 1 else ""
        return f"{found[0].cell.id}: {found[0].reason}{more}" if found else ""

    def counts(self) -> dict[str, int | None]:
        """Return what the phase adds to the totals; None for what the subject does not tell."""
        trials = [verdict.trial for verdict in self.verdicts if verdict.trial]
        told = self.total("fast") + self.total("fallback") > 0
        differences = [trial.committed - trial.attempted for trial in trials if trial.progress == "done"]
        return {
            "operations": self.total("attempted"),
            "fast": self.total("fast") if told else None,
            "fallback": self.total("fallback") if told else None,
            "aborts": self.total("aborts") if told else None,
            "lost": -sum(min(0, difference) for difference in differences),
            "doubled": sum(max(0, difference) for difference in differences),
            "stages": len({verdict.cell.stage for verdict in self.verdicts if verdict.result == PASS}),
        }

    def _said(self) -> str:
        passed = sum(verdict.result == PASS for verdict in self.verdicts)
        said = f"{passed} of {len(self.verdicts)} cells passed"
        missing = {verdict.reason for verdict in self.verdicts if verdict.result == UNSUPPORTED}
        return "; ".join(filter(None, (said, self.skipped, *sorted(missing))))

    def total(self, field_name: str) -> int:
        """Return the sum of a count of the trials."""
        return sum(getattr(verdict.trial, field_name) for verdict in self.verdicts if verdict.trial)

    def document(self) -> dict[str, Any]:
        """Return it as the JSON document holds it."""
        counts = Counter(verdict.result for verdict in self.verdicts)
        names = ("attempted", "committed", "fast", "fallback", "aborts", "stepped")
        return {
            "cells": [verdict.document() for verdict in self.verdicts],
            "said": self._said(),
            "skipped": self.skipped,
            "summary": {word: counts.get(word, 0) for word in RESULTS},
            "totals": {name: self.total(name) for name in names},
        }


def _joined(defects: list[Defect]) -> Defect:
    more = len(defects) - 1
    if not more:
        return defects[0]
    others = f"; and in {more} more cell{'s' if more > 1 else ''} of that stage"
    return replace(defects[0], sentence=defects[0].sentence + others)


# --- the plan


def _places(sections: Iterable[Section], base: int) -> tuple[tuple[int, int, int], ...]:
    return tuple((s.start - base, s.start + s.length - base, s.abort - base) for s in sections)


@cache
def _linked_places(program: Path) -> tuple[tuple[int, int, int], ...]:
    """Return the critical sections of a static program, relative to where its file starts in memory."""
    with Image(str(program)) as image:
        base = min(segment.address for segment in image.loads)
        return _places(critical_sections(Program(image)).sections, base)


def _plan(subject: Subject, build: Build, adds: int) -> Callable[[Process], SubjectPlan]:
    def plan(process: Process) -> SubjectPlan:
        if process.link.startswith("dynamic"):
            watched = tuple(touch.address for touch in subject.watched)
            return SubjectPlan(str(subject.path), None, adds, _places(subject.sections, 0), watched)
        scenario = SCENARIOS[process.scenario]
        fires = (scenario.program, *scenario.executes)[-1]  # a program that executes another fires no stage
        program = build.directory / process.link / fires
        return SubjectPlan("", subject.number, adds, _linked_places(program))

    return plan


# --- the judgement


def _crash(subject: Subject, cell: Cell, trial: Trial, observed: str | None, ending: str) -> Defect:
    """Name what is behind a call that did not return."""
    where = "before its own relocations are done" if trial.relocated is False else ""
    kinds = {touch.kind: touch for touch in subject.code.touches}
    early = trial.relocated is False or observed == "blind" or STAGES[cell.stage].may != MAY_LIBC
    name, because = "crash", ""
    for candidate, wanted in (("needs-tls", TLS_TOUCHES), ("needs-relocation", RELOCATED_TOUCHES)):
        touch = next((kinds[kind] for kind in kinds if kind in wanted), None)
        if early and touch:
            name = candidate
            because = f": it uses {touch.what or touch.kind} ({touch.instruction})"
            break
    if "still running" in ending:
        name, because = "hang", ""
    said = f"{trial.progress}() did not return, {ending or 'the process ended'}"
    return _defect(name, cell, ", ".join(filter(None, (said, where))) + because)


def _defect(name: str, cell: Cell, sentence: str) -> Defect:
    return Defect(name, PHASE, cell.id, f"{cell.stage}: {sentence}")


def _amount(cell: Cell, of: str, got: int, want: int) -> Defect | None:
    """Compare a sum with what was added."""
    if got == want:
        return None
    what = f"{abs(want - got)} of {want} adds {'lost' if got < want else 'too many'}"
    return _defect("lost" if got < want else "doubled", cell, f"{of}: got a sum of {got}, want {want}: {what}")


def _tls_too_early(subject: Subject, cell: Cell, trial: Trial) -> Defect | None:
    """Find an access to thread-local storage that was executed before the relocation that says where that is."""
    executed = [touch for bit, touch in enumerate(subject.watched) if trial.stepped_watched >> bit & 1]
    if trial.relocated is not False or not executed:
        return None
    touch = executed[0]
    sentence = f"`{touch.instruction}` used {touch.what} before the subject's own relocations were done"
    return _defect("needs-tls", cell, sentence)


def _place(subject: Subject, trial: Trial) -> str:
    """Name the section that was last entered, and the instruction."""
    if trial.stepped_section >= len(subject.sections):
        return "outside all critical sections"
    section = subject.sections[trial.stepped_section]
    code = next((insn for insn in section.code if insn.address == trial.stepped_at), None)
    text = f" `{code.text}`" if code else ""
    return f"section at {section.start:#x} of {section.function or 'its code'}, instruction {trial.stepped_at:#x}{text}"


def _protection(subject: Subject, cell: Cell, trial: Trial, observed: str | None) -> Defect | None:
    """Find a fast path where the kernel protects nothing: seen by the tracer, or said by the subject itself."""
    why = UNPROTECTED.get(observed or "", "the kernel has registered nothing")
    if trial.stepped_commits:
        at = _place(subject, trial)
        return _defect("unprotected-fast-path", cell, f"it committed in a critical section where {why} ({at})")
    if trial.fast:
        sentence = f"{trial.fast} of {trial.attempted} adds took the fast path where {why}"
        return _defect("unprotected-fast-path", cell, sentence)
    return None


def _not_loaded(cell: Cell, trial: Trial, run: Run) -> Defect:
    said = f": {run.complaints[:300]}" if run.complaints else ""
    if trial.copies:
        return _defect("not-loaded", cell, f"its functions are not found in the copy that is mapped{said}")
    return _defect("not-loaded", cell, f"it is not mapped in this process{said}")


def _blamed(run: Run, trial: Trial) -> bool:
    """Return whether the wrong sum that was seen here is what the other stage itself has to answer for."""
    other = run.trials.get(trial.wrong or "")
    return other is not None and other.committed - other.attempted == trial.got - trial.want


def _done(subject: Subject, cell: Cell, run: Run, protected: bool, observed: str | None) -> Defect | None:
    """Judge a trial that came to its end."""
    trial = run.trials[cell.stage]
    unprotected = None if protected else _protection(subject, cell, trial, observed)
    if early := unprotected or _tls_too_early(subject, cell, trial):
        return early
    if trial.stepped_limited:
        at = _place(subject, trial)
        sentence = f"an add did not end within {trial.stepped_most} single steps ({at})"
        return _defect("livelock", cell, sentence)
    own = _amount(cell, "its counter", trial.committed, trial.attempted)
    if own or not trial.wrong or _blamed(run, trial):
        return own
    return _amount(cell, f"the counter of {trial.wrong}, checked here", trial.got, trial.want)


def judge(subject: Subject, cell: Cell, run: Run | None, obstacle: str = "") -> Verdict:
    """Judge one cell by the run that speaks for it; None if there was none, for the reason in `obstacle`."""
    if run is None:
        return Verdict(cell, None, None, ERROR, obstacle)
    record, trial = run.records.get(cell.stage), run.trials[cell.stage]
    observed = observed_class(record) if record else None
    defect = None
    if record is None:
        said = "; ".join(filter(None, (run.misbehaved or "the process did not get there", run.complaints[:300])))
        defect = _defect("crash" if run.ending else "not-loaded", cell, f"this stage was not reached: {said}")
    elif trial.progress == "not begun":
        return Verdict(cell, observed, trial, ERROR, f"the probe did not come to its subject: {run.misbehaved}")
    elif not trial.usable:
        defect = _not_loaded(cell, trial, run)
    elif trial.progress != "done":
        defect = _crash(subject, cell, trial, observed, run.ending)
    else:
        defect = _done(subject, cell, run, bool(kernel_registered(record)), observed)
        if not defect and speaks_for_bad_end(run, cell.stage):
            defect = _defect("crash", cell, f"the process that had been there last: {run.misbehaved}")
    if defect:
        return Verdict(cell, observed, trial, FAIL, defect.sentence, defect)
    if run.traced and trial.stepped != 2:
        return Verdict(cell, observed, trial, ERROR, f"{trial.stepped} adds were single-stepped to their end, want 2")
    return Verdict(cell, observed, trial, PASS)


# --- the run


@dataclass(frozen=True)
class Wanted:
    """What the person wants of the matrix."""

    libc: str
    globs: tuple[str, ...] = ()
    adds: int = ADDS
    jobs: int = 0
    links: tuple[str, ...] = field(default_factory=lambda: tuple(LINKS))


def cells_of(subject: Subject, wanted: Wanted) -> list[Cell]:
    """Return the cells: a file can be judged in dynamic links, a built-in subject in static ones, too."""
    links = [link for link in wanted.links if link.startswith("dynamic") or subject.number is not None]
    return select(all_cells(wanted.libc, links, ENVIRONMENTS), wanted.globs)


def _verdicts(subject: Subject, finding: Finding) -> list[Verdict]:
    if finding.unsupported:
        return [Verdict(cell, None, None, UNSUPPORTED, finding.unsupported) for cell in finding.process.cells]
    return [judge(subject, cell, finding.runs.get(cell.stage), finding.obstacle) for cell in finding.process.cells]


def stages(subject: Subject, build: Build, wanted: Wanted, progress: Callable[[int, int], None]) -> Stages:
    """Run the subject through the stages. `progress` is told how many cells of how many are done."""
    cells = cells_of(subject, wanted)
    if not cells:
        raise UsageError("no stage is left to verify")
    options = Options(
        time_limit=TIME_LIMIT,
        jobs=wanted.jobs,
        preload=subject.preload,
        extra_environment={"LD_LIBRARY_PATH": subject.library_path},
        subject=_plan(subject, build, wanted.adds),
    )

    def run(some: list[Cell]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        with closing(Runner(build, options).findings(processes(some))) as findings:
            for finding in findings:
                verdicts += _verdicts(subject, finding)
                progress(len(verdicts), len(some))
                if sum(verdict.defect is not None and verdict.defect.name == "hang" for verdict in verdicts) >= HANGS:
                    break
        return verdicts

    first = next((cell for cell in cells if cell.stage == FIRST), cells[0])
    verdict = run([first])[0]
    if verdict.defect and verdict.trial and verdict.trial.progress != "done":
        return Stages((verdict,), f"it does not even work at {first.stage}: the other stages were not run")
    order = {cell: place for place, cell in enumerate(cells)}
    found = run(cells)
    left = len(cells) - len(found)
    skipped = f"{left} cells were not run: it hangs in too many" if left else ""
    return Stages(tuple(sorted(found, key=lambda verdict: order[verdict.cell])), skipped)
