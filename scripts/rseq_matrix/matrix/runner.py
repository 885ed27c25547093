"""Runs the processes of the matrix and says which run speaks for which stage."""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rseq_matrix.build import Build
from rseq_matrix.environments.catalogue import ENVIRONMENTS, NOT_TRACED, Start, started
from rseq_matrix.environments.readiness import BASE, ENTER, find_tool
from rseq_matrix.matrix.cells import SCENARIOS, Process, artifacts, command
from rseq_matrix.matrix.log import Log
from rseq_matrix.matrix.tracer import Run, Session, TracerPlan
from rseq_matrix.matrix.trial import NEEDED_NAME, SubjectPlan

TIME_LIMIT = 20.0
TRACER = "tracer"


@dataclass(frozen=True)
class Options:
    """How to run."""

    traced: bool = True
    time_limit: float = TIME_LIMIT
    """Seconds that a process may take."""
    jobs: int = 0
    """Processes side by side; 0: as many as there are CPUs to run on."""
    sabotage: Mapping[str, str] = field(default_factory=dict)
    """Stage to defect, for testing the tester; only a build made for it obeys."""
    extra_environment: Mapping[str, str] = field(default_factory=dict)
    preload: str = ""
    """An object that is preloaded behind the scenario's own."""
    subject: Callable[[Process], SubjectPlan] | None = None
    """What works at the stages of a process instead of the probes' own counters."""

    @property
    def workers(self) -> int:
        """Return how many processes run side by side."""
        return self.jobs or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class ProcessRuns:
    """What is known of one process's cells: a run for each stage, or why there is none."""

    process: Process
    runs: Mapping[str, Run]
    obstacle: str = ""
    """Why the process could not be run at all: its build failed."""
    unsupported: str = ""
    """Why the link or the environment does not exist on this machine."""


Launch = Callable[[Sequence[str]], Run]


def _suspects(stages: Sequence[str], first: Run, unfinished: set[str]) -> list[str]:
    """Return the stages to run again alone.

    Those that were not reached; the last that was, if the process ended badly behind it; and all, if the process
    misbehaved with no sign of where.
    """
    missing = [name for name in stages if name not in first.records]
    if first.unruly or (first.ending and not missing):
        return [name for name in stages if name not in unfinished]
    last = [first.last_stage] if first.ending and not unfinished and first.last_stage else []
    return missing + last


def attribute(stages: Sequence[str], wanted: Sequence[str], launch: Launch) -> dict[str, Run]:
    """Run a scenario and find for each wanted stage the run to judge it by, so that one stage's defect costs no other.

    A bad end that no stage shows alone stays with the last stage that the process reached.
    """
    first = launch(stages)
    runs = dict.fromkeys(stages, first)
    if len(stages) == 1:
        return runs
    unfinished = {name for name, record in first.records.items() if not record.complete}
    alone = {name: launch([name]) for name in _suspects(stages, first, unfinished) if name in wanted}
    runs.update(alone)
    shown = unfinished or any(run.misbehaved or not run.records for run in alone.values())
    if first.misbehaved and not shown and first.last_stage:
        runs[first.last_stage] = first
    return runs


def _hindered(process: Process, build: Build) -> ProcessRuns | None:
    """Return the finding of a process that cannot be run here; None if it can."""
    if process.link in build.unsupported:
        return ProcessRuns(process, {}, unsupported=build.unsupported[process.link])
    loader = ENVIRONMENTS[process.environment].needs_loader
    if loader and not process.link.startswith("dynamic"):
        return ProcessRuns(process, {}, unsupported=loader)
    for name in (TRACER, ENTER, *artifacts(process)):
        if name in build.failures:
            return ProcessRuns(process, {}, obstacle=f"{name} could not be built: {build.failures[name]}")
    return None


class Runner:
    """Runs processes on a few tracers side by side."""

    def __init__(self, build: Build, options: Options) -> None:
        """Start nothing yet."""
        self._build = build
        self._options = options
        self._sessions: list[Session] = []
        self._stopped = threading.Event()

    def _start(self, process: Process) -> Start:
        """Return the program that is to be started."""
        environment, preload = ENVIRONMENTS[process.environment], self._options.preload
        arguments, variables = command(process)
        variables = {**variables, **self._build.environment, **self._options.extra_environment}
        if preload and process.link.startswith("dynamic"):
            objects = (variables.get("LD_PRELOAD"), NEEDED_NAME if environment.secure else preload)
            variables["LD_PRELOAD"] = ":".join(filter(None, objects))
        debugger = SCENARIOS[process.scenario].debugger or ("run",)
        return Start(arguments, variables, str(self._build.directory / ENTER), debugger=debugger, subject=preload)

    def _plan(self, process: Process, start: Start) -> TracerPlan:
        """Return how it is started: as it is, or by what the environment is made of."""
        environment = ENVIRONMENTS[process.environment]
        directory = self._build.directory / process.link
        arguments, variables = start.arguments, {**BASE, **start.variables}
        if environment.wrapped:
            tool = find_tool(environment)
            arguments, variables = started(environment, tool, start), BASE
        traced = environment.trace if self._options.traced or environment.stepped else NOT_TRACED
        limit = self._options.time_limit * environment.slowness
        return TracerPlan(directory, arguments, variables, traced, limit, unlimited=environment.wrapped)

    def _launcher(self, process: Process, session: Session) -> Launch:
        environment, start = ENVIRONMENTS[process.environment], self._start(process)
        subject = self._options.subject(process) if self._options.subject else None

        def launch(stages: Sequence[str]) -> Run:
            sabotage = {name: kind for name, kind in self._options.sabotage.items() if name in stages}
            with Log(stages, sabotage, subject, environment.program_does, environment.log_in_file) as log:
                return session.run(self._plan(process, replace(start, log=log.path)), log)

        return launch

    def _find(self, process: Process, session: Session) -> ProcessRuns:
        runs = attribute(process.stages, process.wanted, self._launcher(process, session))
        refused = next((run.trace_error for run in runs.values() if run.trace_error), 0)
        if refused and ENVIRONMENTS[process.environment].stepped:  # it ran free, and proves nothing
            why = f"{errno.errorcode.get(refused, refused)}: {os.strerror(refused)}"
            told = f"nothing is single-stepped: ptrace is not permitted here ({why})"
            return ProcessRuns(process, {}, unsupported=told)
        return ProcessRuns(process, runs)

    def _work(self, session: Session, waiting: queue.SimpleQueue[Process], done: queue.SimpleQueue[object]) -> None:
        try:
            while not self._stopped.is_set():
                done.put(self._find(waiting.get_nowait(), session))
        except queue.Empty:
            pass
        except Exception as error:  # handed to the thread that waits
            done.put(error)

    def findings(self, processes: Sequence[Process]) -> Generator[ProcessRuns, None, None]:
        """Yield the finding of each process as it comes. Closing the iterator ends everything that runs."""
        hindered = {process: _hindered(process, self._build) for process in processes}
        yield from (finding for finding in hindered.values() if finding)
        yield from self._side_by_side([process for process in processes if not hindered[process]])

    def _side_by_side(self, processes: Sequence[Process]) -> Generator[ProcessRuns, None, None]:
        waiting: queue.SimpleQueue[Process] = queue.SimpleQueue()
        done: queue.SimpleQueue[object] = queue.SimpleQueue()
        for process in processes:
            waiting.put(process)
        threads = []
        try:
            for _ in range(min(self._options.workers, len(processes))):
                session = Session(self._build.directory / TRACER, worker=len(self._sessions))
                self._sessions.append(session)
                threads.append(threading.Thread(target=self._work, args=(session, waiting, done), daemon=True))
                threads[-1].start()
            for _ in processes:
                finding = done.get()
                if not isinstance(finding, ProcessRuns):
                    raise finding if isinstance(finding, BaseException) else AssertionError(finding)
                yield finding
        finally:
            self._stopped.set()
            for session in self._sessions:
                session.close()
            for thread in threads:
                thread.join()
