"""What is known of cells before any is run: what their libcs and environments lack, and what the model expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rseq_matrix.environments.catalogue import ENVIRONMENTS, NOT_TRACED
from rseq_matrix.environments.readiness import Ready, ready
from rseq_matrix.kernels.host import Kernel
from rseq_matrix.matrix.cells import Cell, Process, lacking, processes
from rseq_matrix.matrix.libc import Libc
from rseq_matrix.matrix.targets import Target
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.timeline import Expectation, World, expectations


def world(libc: Libc, link: str, environment: str, running: Kernel, answer: str = "", after_exec: str = "") -> World:
    """Tell the model what it needs to know.

    answer, after_exec: what rseq(2) answers in the environment, where that is not what the kernel does.
    """
    return World(
        link=link,
        environment=ENVIRONMENTS[environment].conditions,
        libc_registers=libc.registers_dynamic if link.startswith("dynamic") else libc.registers_static,
        kernel_rseq=answer or running.rseq,
        rseq_after_exec=after_exec,
        static_thread_pointer_first=libc.static_thread_pointer_first.get(link, True),
        area=libc.area[link],
        preloaded_first=libc.preloaded_first,
        audit_binds_lazily=libc.audit_binds_lazily,
    )


class Outlook:
    """The outlook on some cells. Their environments have been looked at by now."""

    def __init__(self, targets: Mapping[str, Target], kernel: Kernel, cells: Sequence[Cell]) -> None:
        """Look at the environments. targets: the libcs of the cells, by their ids."""
        self._targets = targets
        self._kernel = kernel
        self._cells = cells
        places = dict.fromkeys((cell.libc, cell.environment) for cell in cells)
        self.ready: dict[tuple[str, str], Ready] = {place: self._look(*place) for place in places}
        """What each environment of each libc is like."""

    def _look(self, libc: str, environment: str) -> Ready:
        build = self._targets[libc].build
        links = [cell.link for cell in self._cells if (cell.libc, cell.environment) == (libc, environment)]
        return ready(build, environment, [link for link in dict.fromkeys(links) if link not in build.unsupported])

    def _absent(self, libc: str, environment: str) -> dict[str, str]:
        return {**self._targets[libc].libc.absent, **self.ready[libc, environment].absent}

    def lacking(self, cell: Cell) -> str:
        """Say why the cell cannot be had here; empty if it can."""
        hindrance = self.ready[cell.libc, cell.environment].hindrance
        return hindrance or lacking(cell.stage, self._absent(cell.libc, cell.environment))

    def untrue(self, cell: Cell) -> str:
        """Say why nothing that is seen in the cell would prove anything; empty if it would."""
        return self.ready[cell.libc, cell.environment].untrue

    def processes(self, cells: Sequence[Cell]) -> list[Process]:
        """Return the processes that pass through those of the cells that can be had, and prove something."""
        found = []
        for place in dict.fromkeys((cell.libc, cell.environment) for cell in cells):
            if not self.ready[place].untrue and not self.ready[place].hindrance:
                own = (cell for cell in cells if (cell.libc, cell.environment) == place)
                found += processes(own, self._absent(*place))
        return found

    def of_process(self, process: Process) -> dict[str, Expectation]:
        """Return what the model expects of each stage that a process passes through."""
        return self._expected(process.libc, process.scenario, process.link, process.environment)

    def _expected(self, libc: str, scenario: str, link: str, environment: str) -> dict[str, Expectation]:
        there = self.ready[libc, environment]
        told = world(self._targets[libc].libc, link, environment, self._kernel, there.answer, there.after_exec)
        return expectations(LIVES[scenario](told), told)

    def of(self, cell: Cell) -> Expectation:
        """Return what the model expects of a cell."""
        return self._expected(cell.libc, cell.scenario, cell.link, cell.environment)[cell.stage]

    @property
    def untraced(self) -> list[str]:
        """Return the environments into which no tracer can look."""
        names = dict.fromkeys(environment for _, environment in self.ready)
        return [name for name in names if ENVIRONMENTS[name].trace == NOT_TRACED]
