"""The subject at every stage of the matrix, in the processes that also use it at all other stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path

from rseq_matrix.build import Build
from rseq_matrix.documents.verify import Defect, VerifyRequest
from rseq_matrix.documents.verify_phases import StagesFound, StageTotals
from rseq_matrix.elf.critical import critical_sections
from rseq_matrix.elf.facts import Section
from rseq_matrix.elf.flow import ProgramCode
from rseq_matrix.elf.image import Image
from rseq_matrix.environments.catalogue import ENVIRONMENTS, choose_environments, system_libraries
from rseq_matrix.errors import UsageError
from rseq_matrix.kernels.host import kernel
from rseq_matrix.matrix.cells import SCENARIOS, Cell, Process, all_cells, select
from rseq_matrix.matrix.expected import Outlook
from rseq_matrix.matrix.runner import Options, ProcessRuns, Runner
from rseq_matrix.matrix.targets import Target
from rseq_matrix.matrix.trial import NEEDED_NAME, SubjectPlan
from rseq_matrix.model.results import ERROR, PASS, RESULTS, UNSUPPORTED, XFAIL, XPASS
from rseq_matrix.model.stages import LINKS
from rseq_matrix.verify.stage_judgement import Verdict, judge
from rseq_matrix.verify.subject import Subject

DEFAULT_ENVIRONMENTS = ("default", "tunable-off")
FIRST = "executable.main"
TIME_LIMIT = 10.0  # seconds, of a process
HANGS = 3
"""So many cells that hang are enough: the rest would take minutes."""
STEPPED_ADDS = 10
"""At most so many where every instruction is single-stepped: an add takes some milliseconds there."""


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
        return tuple(verdict for verdict in self.verdicts if verdict.result in (ERROR, XPASS))

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
        """Return what the phase adds to the totals; None for what the subject does not report."""
        trials = [verdict.trial for verdict in self.verdicts if verdict.trial]
        tells_path = self.total("fast") + self.total("fallback") > 0
        differences = [trial.committed - trial.attempted for trial in trials if trial.progress == "done"]
        return {
            "operations": self.total("attempted"),
            "fast": self.total("fast") if tells_path else None,
            "fallback": self.total("fallback") if tells_path else None,
            "aborts": self.total("aborts") if tells_path else None,
            "lost": -sum(min(0, difference) for difference in differences),
            "doubled": sum(max(0, difference) for difference in differences),
            "stages": len({verdict.cell.stage for verdict in self.verdicts if verdict.result == PASS}),
        }

    def _said(self) -> str:
        passed = sum(verdict.result == PASS for verdict in self.verdicts)
        ended = sum(verdict.result == XFAIL for verdict in self.verdicts)
        said = f"{passed} of {len(self.verdicts)} cells passed"
        ends = f"in {ended} the environment has to end the process early, and did" if ended else ""
        missing = {verdict.reason for verdict in self.verdicts if verdict.result == UNSUPPORTED}
        return "; ".join(filter(None, (said, ends, self.skipped, *sorted(missing))))

    def total(self, field_name: str) -> int:
        """Return the sum of a count of the trials."""
        return sum(getattr(verdict.trial, field_name) for verdict in self.verdicts if verdict.trial)

    def document(self) -> StagesFound:
        """Return it as the JSON document holds it."""
        counts = Counter(verdict.result for verdict in self.verdicts)
        return StagesFound(
            cells=tuple(verdict.document() for verdict in self.verdicts),
            said=self._said(),
            skipped=self.skipped,
            summary={word: counts.get(word, 0) for word in RESULTS},
            totals=StageTotals(**{one.name: self.total(one.name) for one in fields(StageTotals)}),
        )


def _joined(defects: list[Defect]) -> Defect:
    more = len(defects) - 1
    if not more:
        return defects[0]
    others = f"; and in {more} more cell{'s' if more > 1 else ''} of that stage"
    return replace(defects[0], sentence=defects[0].sentence + others)


# --- the plan


def _places(sections: Iterable[Section], base: int) -> tuple[tuple[int, int], ...]:
    return tuple((s.start - base, s.start + s.length - base) for s in sections)


@cache
def _linked_places(program: Path) -> tuple[tuple[int, int], ...]:
    """Return the critical sections of a static program, relative to where its file starts in memory."""
    with Image(str(program)) as image:
        base = min(segment.address for segment in image.loads)
        return _places(critical_sections(ProgramCode(image)).sections, base)


def _plan(subject: Subject, build: Build, adds: int) -> Callable[[Process], SubjectPlan]:
    def plan(process: Process) -> SubjectPlan:
        environment = ENVIRONMENTS[process.environment]
        count = min(adds, STEPPED_ADDS) if environment.stepped else adds
        if process.link.startswith("dynamic"):
            path = system_libraries() / NEEDED_NAME if environment.secure else subject.path
            watched = tuple(touch.address for touch in subject.watched)
            return SubjectPlan(str(path), None, count, _places(subject.sections, 0), watched)
        scenario = SCENARIOS[process.scenario]
        fires = (scenario.program, *scenario.executes)[-1]  # a program that executes another fires no stage
        program = build.directory / process.link / fires
        return SubjectPlan("", subject.number, count, _linked_places(program))

    return plan


# --- the run


@dataclass(frozen=True)
class StagesRequest:
    """Which cells the subject works in, and how much it does there."""

    globs: tuple[str, ...] = ()
    adds: int = VerifyRequest.adds
    jobs: int = 0
    links: tuple[str, ...] = field(default_factory=lambda: tuple(LINKS))
    environments: tuple[str, ...] = ()
    """Names, or "all"; empty: the default, and those that the globs name."""


def cells_of(subject: Subject, libc: str, request: StagesRequest) -> list[Cell]:
    """Return the cells: a file can be judged in dynamic links, a built-in subject in static ones, too."""
    links = [link for link in request.links if link.startswith("dynamic") or subject.number is not None]
    environments = choose_environments(request.environments, request.globs, DEFAULT_ENVIRONMENTS)
    cells = select(all_cells(libc, links, environments), request.globs)
    if not cells:
        raise UsageError("no stage is left to verify")
    return cells


def _unfit(subject: Subject, cell: Cell) -> str:
    """Say why the subject itself cannot be loaded in a cell; empty if it can."""
    if not (ENVIRONMENTS[cell.environment].secure and cell.link.startswith("dynamic")):
        return ""
    if subject.run_path:
        return "the subject has a run path, which ld.so does not follow in a secure program"
    if SCENARIOS[cell.scenario].executes:
        return "ld.so unsets LD_PRELOAD in a secure program, so the program that it executes has no subject"
    return ""


class _Trials:
    """One subject in the cells of one libc."""

    def __init__(self, subject: Subject, target: Target, request: StagesRequest) -> None:
        """Look at where the cells are. Raises UsageError where there are none."""
        self.cells = cells_of(subject, target.libc.id, request)
        self._subject, self._target = subject, target
        self._outlook = Outlook({target.libc.id: target}, kernel(), self.cells)
        reasons = {cell: self._outlook.lacking(cell) or _unfit(subject, cell) for cell in self.cells}
        untrue = {cell: why for cell in self.cells if (why := self._outlook.untrue(cell))}
        self.not_run = [
            Verdict(cell, None, None, ERROR if cell in untrue else UNSUPPORTED, why)
            for cell, why in {**reasons, **untrue}.items()
            if why
        ]
        self.possible = [cell for cell, why in reasons.items() if not why and cell not in untrue]
        self._options = Options(
            time_limit=TIME_LIMIT,
            jobs=request.jobs,
            preload=subject.preload,
            extra_environment={"LD_LIBRARY_PATH": subject.library_path},
            subject=_plan(subject, target.build, request.adds),
        )

    def _verdicts(self, finding: ProcessRuns) -> list[Verdict]:
        if finding.unsupported:
            return [Verdict(cell, None, None, UNSUPPORTED, finding.unsupported) for cell in finding.process.cells]
        expected = self._outlook.of_process(finding.process)
        return [
            judge(self._subject, cell, expected[cell.stage].ending, finding.runs.get(cell.stage), finding.obstacle)
            for cell in finding.process.cells
        ]

    def run(self, cells: list[Cell], progress: Callable[[int, int], None]) -> list[Verdict]:
        """Run some of the cells that are possible. Fewer verdicts than cells: too many hung."""
        verdicts: list[Verdict] = []
        processes = self._outlook.processes(cells)
        with closing(Runner(self._target.build, self._options).findings(processes)) as findings:
            for finding in findings:
                verdicts += self._verdicts(finding)
                progress(len(verdicts), len(cells))
                if sum(verdict.defect is not None and verdict.defect.name == "hang" for verdict in verdicts) >= HANGS:
                    break
        return verdicts


def work_at_stages(
    subject: Subject, target: Target, request: StagesRequest, progress: Callable[[int, int], None]
) -> Stages:
    """Run the subject through the stages. `progress` is called with how many cells of how many are done."""
    trials = _Trials(subject, target, request)
    first = next((cell for cell in trials.possible if cell.stage == FIRST), None)
    verdict = trials.run([first], progress)[0] if first else None
    if first and verdict and verdict.defect and verdict.trial and verdict.trial.progress != "done":
        return Stages((verdict,), f"it fails at {first.stage} already, so the other stages were not run")
    order = {cell: place for place, cell in enumerate(trials.cells)}
    found = trials.run(trials.possible, progress)
    left = len(trials.possible) - len(found)
    skipped = f"{left} cells were not run, because the subject did not return in {HANGS} others" if left else ""
    verdicts = sorted([*found, *trials.not_run], key=lambda verdict: order[verdict.cell])
    return Stages(tuple(verdicts), skipped)
