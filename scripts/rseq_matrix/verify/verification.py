"""A subject from its file to the verdict: every phase, and the JSON document of them all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rseq_matrix.documents.plain import plain
from rseq_matrix.environments.catalogue import choose_environments
from rseq_matrix.errors import MissingError, UsageError
from rseq_matrix.kernels.host import Kernel, kernel, require_platform
from rseq_matrix.matrix.document import host_kernel, libc_identity
from rseq_matrix.matrix.targets import Target, system_target
from rseq_matrix.model.results import ERROR, FAIL, PASS, RESULTS, UNSUPPORTED
from rseq_matrix.verify import stages
from rseq_matrix.verify.debugger import step_in_gdb
from rseq_matrix.verify.defects import Defect
from rseq_matrix.verify.history import history
from rseq_matrix.verify.interruptions import interrupt
from rseq_matrix.verify.result import Result
from rseq_matrix.verify.stepping import step
from rseq_matrix.verify.stress import stress
from rseq_matrix.verify.subject import BUILT_IN, Subject, opened

SCHEMA = 1
SECONDS = 5.0
HISTORY_SHARE = 0.2
"""Of the seconds for stress, on top of them."""
TOTALS = ("operations", "fast", "fallback", "aborts", "lost", "doubled", "stages", "instructions")

Document = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for. Empty means all, or the default."""

    subjects: tuple[str, ...] = ()
    """Names of built-in subjects, and paths."""
    globs: tuple[str, ...] = ()
    """Of stages and cells, for the phase that goes through the matrix."""
    phases: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    """Of the same phase."""
    seconds: float = SECONDS
    adds: int = stages.ADDS
    jobs: int = 0


@dataclass(frozen=True)
class Job:
    """One phase for one subject."""

    subject: Subject
    target: Target
    wanted: Wanted
    progress: Callable[[float], None]
    """Told which part of the phase is done, 0 to 1."""

    def program(self, name: str) -> Path:
        """Return a program of verify's. Raises MissingError where it could not be built."""
        build = self.target.build
        if problem := build.failures.get(f"verify/{name}"):
            raise MissingError(f"verify/{name} could not be built: {problem}")
        return build.directory / "verify" / name

    def part(self, done: int, total: int) -> None:
        """Tell how many of how many are done."""
        self.progress(done / total if total else 1.0)


def _stages(job: Job) -> Result:
    asked = job.wanted
    wanted = stages.Wanted(asked.globs, asked.adds, asked.jobs, environments=asked.environments)
    return stages.stages(job.subject, job.target, wanted, job.part)


def _interruptions(job: Job) -> Result:
    return interrupt(job.subject, job.program("interrupted"), job.part)


def _stepping(job: Job) -> Result:
    return step(job.subject, job.program("interrupted"))


def _gdb(job: Job) -> Result:
    return step_in_gdb(job.subject, job.program("interrupted"))


def _stress(job: Job) -> Result:
    return stress(job.subject, job.program("stress"), job.wanted.seconds, job.progress)


def _history(job: Job) -> Result:
    return history(job.subject, job.program("history"), job.wanted.seconds * HISTORY_SHARE)


PHASES: dict[str, Callable[[Job], Result]] = {
    "stages": _stages,
    "interruptions": _interruptions,
    "stepping": _stepping,
    "gdb": _gdb,
    "stress": _stress,
    "history": _history,
}
"""In the order in which they run."""


@dataclass
class Judged:
    """A subject and what its phases found so far."""

    subject: Subject
    phases: dict[str, Document] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)
    totals: dict[str, int | None] = field(default_factory=dict)

    def add(self, name: str, result: Result | None, problem: str, seconds: float) -> None:
        """Keep a phase's result; `problem` is why there is none."""
        defects = result.defects if result else ()
        problem = problem or (result.problem if result else "")
        unsupported = result.unsupported if result else ""
        word = FAIL if defects else ERROR if problem else UNSUPPORTED if unsupported else PASS
        reason = defects[0].sentence if defects else problem or unsupported
        self.defects += defects
        self.phases[name] = {"result": word, "reason": reason, "seconds": round(seconds, 3)}
        self.phases[name]["found"] = result.document() if result else None
        for count, value in (result.counts() if result else {}).items():
            before = self.totals.get(count, 0)
            self.totals[count] = None if value is None or before is None else before + value

    @property
    def result(self) -> str:
        """Return the word for the whole subject."""
        words = {phase["result"] for phase in self.phases.values()}
        return next((word for word in (FAIL, ERROR, PASS) if word in words), UNSUPPORTED)

    def document(self) -> Document:
        """Return it as the JSON document holds it."""
        subject = self.subject
        return {
            "name": subject.name,
            "path": str(subject.path),
            "exports": sorted(subject.exports),
            "sections": len(subject.sections),
            "result": self.result,
            "totals": {name: self.totals.get(name) for name in TOTALS},
            "phases": self.phases,
            "defects": [defect.document() for defect in self.defects],
        }


class Verification:
    """A run that is ready to go: everything that can be wrong with the request has been said by now."""

    def __init__(self, wanted: Wanted, stack: ExitStack) -> None:
        """Build what is needed and open the subjects, which stay open as long as `stack`."""
        require_platform()
        for name in wanted.phases:
            if name not in PHASES:
                raise UsageError(f"unknown phase '{name}': known are {', '.join(PHASES)}")
        choose_environments(wanted.environments, (), ())
        self.wanted = wanted
        self.kernel: Kernel = kernel()
        self.target = system_target()
        named = wanted.subjects or BUILT_IN
        self.subjects: list[Subject] = [stack.enter_context(self._open(name)) for name in dict.fromkeys(named)]
        self.judged: list[Judged] = []
        self.complete = False

    def _open(self, name: str) -> Any:
        if name not in BUILT_IN:
            if "/" not in name and not Path(name).exists():
                raise UsageError(f"no subject '{name}': it is {', '.join(BUILT_IN)}, or the path of a shared object")
            return opened(Path(name))
        file = f"subjects/{name}.so"
        build = self.target.build
        if problem := build.failures.get(file):
            raise MissingError(f"{file} could not be built: {problem}")
        return opened(build.directory / file, name, BUILT_IN.index(name))

    @property
    def phases(self) -> list[str]:
        """Return the names of the phases that are wanted, in their order."""
        return [name for name in PHASES if not self.wanted.phases or name in self.wanted.phases]

    def go(self, progress: Callable[[str, str, float], None]) -> Iterator[Judged]:
        """Judge one subject after the other. `progress` is told subject, phase and which part of it is done."""
        for subject in self.subjects:
            judged = Judged(subject)
            self.judged.append(judged)
            for name in self.phases:
                self._phase(judged, name, progress)
            yield judged
        self.complete = True

    def _phase(self, judged: Judged, name: str, progress: Callable[[str, str, float], None]) -> None:
        def tell(part: float) -> None:
            progress(judged.subject.name, name, part)

        tell(0.0)
        started = time.monotonic()
        result, problem = None, ""
        try:
            result = PHASES[name](Job(judged.subject, self.target, self.wanted, tell))
        except MissingError as error:  # this phase's own want costs no other its result
            problem = str(error)
        judged.add(name, result, problem, time.monotonic() - started)
        tell(1.0)

    def document(self) -> Document:
        """Return what has been judged so far."""
        subjects = [judged.document() for judged in self.judged]
        counts = Counter(subject["result"] for subject in subjects)
        return {
            "schema": SCHEMA,
            "complete": self.complete,
            "host": plain(host_kernel(self.kernel)),
            "libc": plain(libc_identity(self.target.libc)),
            "wanted": asdict(self.wanted),
            "subjects": subjects,
            "summary": {word: counts.get(word, 0) for word in RESULTS},
        }
