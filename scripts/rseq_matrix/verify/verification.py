"""A subject from its file to the verdict: every phase, and the JSON document of them all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from rseq_matrix.documents.verify import (
    PHASES,
    VERIFY_SCHEMA,
    Defect,
    PhaseResult,
    SubjectResult,
    SubjectTotals,
    VerifyDocument,
    VerifyRequest,
)
from rseq_matrix.environments.catalogue import choose_environments
from rseq_matrix.errors import MissingError, UsageError
from rseq_matrix.kernels.host import Kernel, kernel, require_platform
from rseq_matrix.matrix.document import host_kernel, libc_identity
from rseq_matrix.matrix.targets import Target, system_target
from rseq_matrix.model.results import ERROR, FAIL, PASS, RESULTS, UNSUPPORTED
from rseq_matrix.verify.at_stages import StagesRequest, work_at_stages
from rseq_matrix.verify.debugger import step_in_gdb
from rseq_matrix.verify.history import history
from rseq_matrix.verify.interruptions import interrupt
from rseq_matrix.verify.result import Result
from rseq_matrix.verify.stepping import step
from rseq_matrix.verify.stress import stress
from rseq_matrix.verify.subject import BUILT_IN, Subject, opened

HISTORY_SHARE = 0.2
"""Of the seconds for stress, on top of them."""


def _phase_word(result: Result, problem: str) -> tuple[str, str]:
    """Return the result word of a phase, and the reason: a defect counts more than a problem, that more than a lack."""
    if result.defects:
        return FAIL, result.defects[0].sentence
    if problem or result.problem:
        return ERROR, problem or result.problem
    return (UNSUPPORTED, result.unsupported) if result.unsupported else (PASS, "")


@dataclass(frozen=True)
class Job:
    """One phase for one subject."""

    subject: Subject
    target: Target
    request: VerifyRequest
    progress: Callable[[float], None]
    """Called with the part of the phase that is done, 0 to 1."""

    def program(self, name: str) -> Path:
        """Return a program of verify's. Raises MissingError where it could not be built."""
        build = self.target.build
        if problem := build.failures.get(f"verify/{name}"):
            raise MissingError(f"verify/{name} could not be built: {problem}")
        return build.directory / "verify" / name

    def part(self, done: int, total: int) -> None:
        """Report how many of how many are done."""
        self.progress(done / total if total else 1.0)


def _stages(job: Job) -> Result:
    asked = job.request
    request = StagesRequest(asked.globs, asked.adds, asked.jobs, environments=asked.environments)
    return work_at_stages(job.subject, job.target, request, job.part)


def _interruptions(job: Job) -> Result:
    return interrupt(job.subject, job.program("interrupted"), job.part)


def _stepping(job: Job) -> Result:
    return step(job.subject, job.program("interrupted"))


def _gdb(job: Job) -> Result:
    return step_in_gdb(job.subject, job.program("interrupted"))


def _stress(job: Job) -> Result:
    return stress(job.subject, job.program("stress"), job.request.seconds, job.progress)


def _history(job: Job) -> Result:
    return history(job.subject, job.program("history"), job.request.seconds * HISTORY_SHARE)


RUNNERS: Mapping[str, Callable[[Job], Result]] = {
    "stages": _stages,
    "interruptions": _interruptions,
    "stepping": _stepping,
    "gdb": _gdb,
    "stress": _stress,
    "history": _history,
}


@dataclass
class JudgedSubject:
    """A subject and what its phases found so far."""

    subject: Subject
    phases: dict[str, PhaseResult] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)
    totals: SubjectTotals = field(default_factory=SubjectTotals)
    untold: set[str] = field(default_factory=set)
    """The totals that the subject does not tell in some phase."""

    def add(self, name: str, result: Result | None, problem: str, seconds: float) -> None:
        """Keep a phase's result; `problem` is why there is none. `seconds` is how long the phase took."""
        if result is None:
            self.phases[name] = PhaseResult(ERROR if problem else PASS, problem, round(seconds, 3), None)
            return
        word, reason = _phase_word(result, problem)
        self.defects += result.defects
        self.phases[name] = PhaseResult(word, reason, round(seconds, 3), result.document())
        for count, value in result.counts().items():
            if value is None:
                self.untold.add(count)
            before = getattr(self.totals, count) or 0
            total = None if count in self.untold else before + (value or 0)
            self.totals = replace(self.totals, **{count: total})

    @property
    def result(self) -> str:
        """Return the word for the whole subject."""
        words = {phase.result for phase in self.phases.values()}
        return next((word for word in (FAIL, ERROR, PASS) if word in words), UNSUPPORTED)

    def document(self) -> SubjectResult:
        """Return it as the JSON document holds it."""
        subject = self.subject
        return SubjectResult(
            name=subject.name,
            path=str(subject.path),
            exports=tuple(sorted(subject.exports)),
            sections=len(subject.sections),
            result=self.result,
            totals=self.totals,
            phases=dict(self.phases),
            defects=tuple(self.defects),
        )


class Verification:
    """A run that is ready to go: everything that can be wrong with the request has been said by now."""

    def __init__(self, request: VerifyRequest, stack: ExitStack) -> None:
        """Build what is needed and open the subjects, which stay open as long as `stack`."""
        require_platform()
        for name in request.phases:
            if name not in PHASES:
                raise UsageError(f"unknown phase '{name}': known are {', '.join(PHASES)}")
        choose_environments(request.environments, (), ())
        self.request = request
        self.kernel: Kernel = kernel()
        self.target = system_target()
        named = request.subjects or BUILT_IN
        self.subjects: list[Subject] = [stack.enter_context(self._open(name)) for name in dict.fromkeys(named)]
        self.judged: list[JudgedSubject] = []
        self.complete = False

    def _open(self, name: str) -> AbstractContextManager[Subject]:
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
        return [name for name in PHASES if not self.request.phases or name in self.request.phases]

    def go(self, progress: Callable[[str, str, float], None]) -> Iterator[JudgedSubject]:
        """Judge one subject after the other. `progress`: subject, phase, and the part that is done, 0 to 1."""
        for subject in self.subjects:
            judged = JudgedSubject(subject)
            self.judged.append(judged)
            for name in self.phases:
                self._phase(judged, name, progress)
            yield judged
        self.complete = True

    def _phase(self, judged: JudgedSubject, name: str, progress: Callable[[str, str, float], None]) -> None:
        def tell(part: float) -> None:
            progress(judged.subject.name, name, part)

        tell(0.0)
        started = time.monotonic()
        result, problem = None, ""
        try:
            result = RUNNERS[name](Job(judged.subject, self.target, self.request, tell))
        except MissingError as error:  # what this phase lacks does not matter to the others
            problem = str(error)
        judged.add(name, result, problem, time.monotonic() - started)
        tell(1.0)

    def document(self) -> VerifyDocument:
        """Return what has been judged so far."""
        subjects = tuple(judged.document() for judged in self.judged)
        counts = Counter(subject.result for subject in subjects)
        return VerifyDocument(
            schema=VERIFY_SCHEMA,
            complete=self.complete,
            host=host_kernel(self.kernel),
            libc=libc_identity(self.target.libc),
            wanted=self.request,
            subjects=subjects,
            summary={word: counts.get(word, 0) for word in RESULTS},
        )
