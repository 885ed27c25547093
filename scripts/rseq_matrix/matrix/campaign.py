"""One run of the matrix, from what is asked for to the document: build, select, run, judge, keep."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rseq_matrix.documents.run import CellResult, RunDocument
from rseq_matrix.environments.catalogue import choose_environments
from rseq_matrix.errors import UsageError
from rseq_matrix.kernels.host import Kernel, kernel, require_platform
from rseq_matrix.libcs.specs import Spec, choose
from rseq_matrix.matrix.cells import Cell, Process, all_cells, select
from rseq_matrix.matrix.document import cell_result, host_kernel, libc_of_run, run_document
from rseq_matrix.matrix.expected import Outlook
from rseq_matrix.matrix.journal import Journal
from rseq_matrix.matrix.judgement import Identity, Judged, judge, unsupported
from rseq_matrix.matrix.libc import own_libc_version
from rseq_matrix.matrix.runner import Options, ProcessRuns, Runner
from rseq_matrix.matrix.targets import Target, targets
from rseq_matrix.model.stages import LINKS

DEFAULT_ENVIRONMENTS = ("default",)


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for. Empty means all, or the default."""

    globs: tuple[str, ...] = ()
    libcs: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)
    resume: bool = False
    sabotage: bool = False
    """Use the build that obeys planted defects."""


def _links(wanted: Wanted) -> list[str]:
    """Return the links, in the order of the axis."""
    for name in wanted.links:
        if name not in LINKS:
            raise UsageError(f"unknown link '{name}': known are {', '.join(LINKS)}")
    return [link for link in LINKS if not wanted.links or link in wanted.links]


def _specs(wanted: Wanted) -> list[Spec]:
    return choose(wanted.libcs, wanted.globs, f"glibc-{own_libc_version()}")


def _silent(_: str) -> None:
    """Tell nobody."""


class Campaign:
    """A run that is ready to go: everything that can be wrong with the request has been said by now."""

    def __init__(self, wanted: Wanted, tell: Callable[[str], None] = _silent) -> None:
        """Make the libcs ready and select the cells. `tell` is told what is going on."""
        require_platform()
        links = _links(wanted)
        environments = choose_environments(wanted.environments, wanted.globs, DEFAULT_ENVIRONMENTS)
        self.wanted = wanted
        self.kernel: Kernel = kernel()
        self.targets: dict[str, Target] = {
            target.libc.id: target for target in targets(_specs(wanted), wanted.sabotage, tell)
        }
        possible = [cell for name in self.targets for cell in all_cells(name, links, environments)]
        self.cells: list[Cell] = select(possible, wanted.globs)
        tell("looking at the environments")
        self._outlook = Outlook(self.targets, self.kernel, self.cells)
        self.processes: list[Process] = self._outlook.processes(self.cells)
        self._done: dict[str, CellResult] = {}
        self._trace_errors: set[int] = set()
        self._oracle_errors: set[int] = set()

    def judge(self, finding: ProcessRuns) -> list[Judged]:
        """Judge the cells of one process."""
        process = finding.process
        expected = self._outlook.of_process(process)
        order = {name: expectation.order for name, expectation in expected.items()}
        libc = self.targets[process.libc].libc
        identity = Identity(libc.version, libc.build_id)
        if finding.unsupported:
            return [unsupported(cell, expected[cell.stage], finding.unsupported) for cell in process.cells]
        return [
            judge(cell, expected[cell.stage], finding.runs.get(cell.stage), order, identity, finding.obstacle)
            for cell in process.cells
        ]

    def _not_run(self) -> Iterator[Judged]:
        """Yield the cells that a libc or an environment cannot have, or whose environment is not what it says."""
        for cell in self.cells:
            untrue, reason = self._outlook.untrue(cell), self._outlook.lacking(cell)
            if untrue:
                identity = Identity(self.targets[cell.libc].libc.version, None)
                yield judge(cell, self._outlook.of(cell), None, {}, identity, untrue)
            elif reason:
                yield unsupported(cell, self._outlook.of(cell), reason)

    def _observe_oracle(self, finding: ProcessRuns) -> None:
        for run in finding.runs.values():
            if run.trace_error:
                self._trace_errors.add(run.trace_error)
            elif run.traced:
                self._oracle_errors |= {record.oracle_errno for record in run.records.values()} - {0}

    def go(self, journal: Journal) -> Iterator[Process]:
        """Run every process that the journal does not hold, and yield each when its cells are judged and kept."""
        finished = journal.finished
        rest = [process for process in self.processes if not all(cell.id in finished for cell in process.cells)]
        self._done = {judged.cell.id: cell_result(judged) for judged in self._not_run()}
        self._done |= {cell.id: finished[cell.id] for cell in self.cells if cell.id in finished}
        done = set(map(id, self.processes)) - set(map(id, rest))
        yield from (process for process in self.processes if id(process) in done)
        for name, target in self.targets.items():
            waiting = [process for process in rest if process.libc == name]
            for finding in Runner(target.build, self.wanted.options).findings(waiting):
                self._observe_oracle(finding)
                results = [cell_result(judged) for judged in self.judge(finding)]
                self._done.update({result.id: result for result in results})
                journal.add(results)
                yield finding.process

    def identity(self) -> dict[str, Any]:
        """Return what two runs must share for the cells of one to stand for the other's."""
        options = self.wanted.options
        return {
            "cells": sorted(cell.id for cell in self.cells),
            "builds": {name: target.build.directory.name for name, target in self.targets.items()},
            "kernel": self.kernel.release,
            "traced": options.traced,
            "sabotage": dict(options.sabotage),
        }

    def _notes(self) -> Iterator[str]:
        if not self.kernel.has_rseq:
            yield (
                f"rseq(2) is answered with {self.kernel.rseq} here (ENOSYS: the kernel has none; else it is a filter): "
                "no area can be registered and rseq is not usable at any stage"
            )
        for libc in (target.libc for target in self.targets.values() if self.kernel.has_rseq):
            if libc.loader and not libc.registers_dynamic:
                yield f"{libc.id} has no rseq support: nothing is registered unless a library does it itself"
        for libc in (target.libc for target in self.targets.values() if target.libc.borrowed):
            yield f"{libc.id}: {', '.join(libc.borrowed)}: the system's were taken, because {libc.spec} has none"
        yield from self._notes_on_environments()
        yield from filter(None, (target.repeated for target in self.targets.values()))
        if not self.wanted.options.traced:
            yield "untraced (--no-oracle): the in-process oracle alone was asked, observed.oracle is null"
        for error in sorted(self._trace_errors):
            yield (
                f"ptrace is not permitted here ({errno.errorcode.get(error, error)}: {os.strerror(error)}): "
                "the in-process oracle alone was asked, observed.oracle is null"
            )
        for error in sorted(self._oracle_errors):
            yield (
                f"this kernel does not tell PTRACE_GET_RSEQ_CONFIGURATION ({errno.errorcode.get(error, error)}; "
                "Linux 5.13 does): observed.oracle is null"
            )

    def _notes_on_environments(self) -> Iterator[str]:
        if self._outlook.untraced and self.wanted.options.traced:
            apart = ", ".join(self._outlook.untraced)
            yield f"{apart}: no tracer can look inside, so the in-process oracle alone was asked"
        fakes = (place for place, there in self._outlook.ready.items() if there.answer == "success")
        libcs = {name: target.libc for name, target in self.targets.items()}
        fooled = (name for libc, name in fakes if libcs[libc].registers_dynamic or libcs[libc].registers_static)
        for name in dict.fromkeys(fooled):
            yield (
                f"{name}: __rseq_size is positive though nothing is registered: a library that reads only the size is "
                "fooled; cpu_id says the truth, and stays negative"
            )

    def document(self) -> RunDocument:
        """Return what has been judged so far."""
        cells = [self._done[cell.id] for cell in self.cells if cell.id in self._done]
        complete = len(cells) == len(self.cells)
        return run_document(
            host_kernel(self.kernel),
            [libc_of_run(target.libc) for target in self.targets.values()],
            cells,
            self._notes(),
            complete,
        )
