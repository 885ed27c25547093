"""Scenarios, cells, and which of them are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from rseq_matrix.environments.catalogue import ENVIRONMENTS
from rseq_matrix.errors import UsageError
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.stages import LINKS, STAGES
from rseq_matrix.model.timeline import DEFAULT, Expectation, World, expectations

KERNEL = "host"


@dataclass(frozen=True)
class Scenario:
    """One process execution that passes through many stages. Its name is that of its life and of its entry here."""

    program: str
    preload: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    """Objects that the program needs or opens by itself."""
    executes: tuple[str, ...] = ()
    """Programs that it puts in its place."""
    only_in: str = ""
    """The environment that it exists in; empty: in all."""
    debugger: tuple[str, ...] = ()
    """What a debugger does instead of "run"."""


DEBUGGED = (
    "set breakpoint pending on",  # until `enter` has become the program
    "break rsm_debugger_begins",
    "break rsm_debugger_ends",
    "break rsm_breakpoint_begins",
    "run",
    "stepi 100000",  # ends at the second breakpoint
    "continue",
    "break *(char *)&rsm_debugged_inside",
    "continue",
    "set var *(int *)&rsm_debugger_stopped = $pc == (char *)&rsm_debugged_inside",
    "continue",
)
"""What gdb does with csrc/host/debugged.c."""

SCENARIOS: dict[str, Scenario] = {
    "audited": Scenario("audited", audit=("rsm_audit.so",), opens=("rsm_audited.so", "rsm_audited_plugin.so")),
    "audited_calls": Scenario("audited", audit=("rsm_audit_calls.so",), opens=("rsm_audited.so",)),
    "life": Scenario(
        "life", preload=("rsm_preload.so",), opens=("rsm_needed.so", "rsm_opened.so", "rsm_new_namespace.so")
    ),
    "allocating": Scenario("allocating", preload=("rsm_malloc.so",)),
    "quick_exit": Scenario("quick_exit"),
    "threads": Scenario("threads"),
    "main_exit": Scenario("main_exit"),
    "signals": Scenario("signals", preload=("rsm_signal_constructor.so",)),
    "children": Scenario("children"),
    "exec": Scenario("exec", executes=("exec_image",)),
    "unregister": Scenario("unregister"),
    "debugged": Scenario("debugged", only_in="gdb", debugger=DEBUGGED),
}

NEEDS: tuple[tuple[str, str], ...] = (
    ("audit.*", "audit"),
    ("audit.ifunc_resolver", "ifunc"),
    ("ifunc.*", "ifunc"),
    ("signal.ifunc_resolver", "ifunc"),
    ("library.dlmopen_constructor", "dlmopen"),
    ("library.dlclose_destructor", "dlclose"),
    ("executable.preinit_array", "preinit_array"),
    ("executable.on_exit", "on_exit"),
    ("thread.recycled_stack", "recycled_stack"),
    ("thread.cleanup_handler", "cancellation"),
    ("thread.cancelled", "cancellation"),
    ("thread.after_main_exit", "cancellation"),
    ("thread.tls_destructor", "thread_atexit"),
    ("process.coroutine", "makecontext"),
    ("process.clone_vm_child", "clone_vm"),
    ("thread.cancelled", "cancelled_call"),
)
"""What stages need that not every libc or environment has: names of experiments in csrc/detect."""


def lacking(stage: str, absent: Mapping[str, str]) -> str:
    """Say why a libc cannot have the stage; empty if it can. absent: what it does not have, and why."""
    needs = (need for pattern, need in NEEDS if fnmatchcase(stage, pattern))
    return next((absent[need] for need in needs if need in absent), "")


@dataclass(frozen=True)
class Cell:
    """One stage under one kernel, libc, link and environment."""

    libc: str
    link: str
    environment: str
    stage: str
    scenario: str
    kernel: str = KERNEL

    @property
    def id(self) -> str:
        """Return the name that can be given back to `run`."""
        return "/".join((self.kernel, self.libc, self.link, self.environment, self.stage))


@dataclass(frozen=True)
class Process:
    """One execution of a scenario, with the cells that are wanted of it."""

    scenario: str
    link: str
    environment: str
    cells: tuple[Cell, ...]
    left_out: tuple[str, ...] = ()
    """Stages of the scenario that this libc cannot have."""

    @property
    def libc(self) -> str:
        """Return the id of the libc."""
        return self.cells[0].libc

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return the names of the wanted stages."""
        return tuple(cell.stage for cell in self.cells)

    @property
    def stages(self) -> tuple[str, ...]:
        """Return all stages of the scenario: they run all the same, because their order is evidence."""
        return tuple(name for name in scenario_stages(self.scenario, self.link) if name not in self.left_out)


def exists_in(scenario: str, environment: str) -> bool:
    """Return whether a scenario exists in an environment."""
    return SCENARIOS[scenario].only_in in ("", environment)


@cache
def scenario_stages(scenario: str, link: str) -> dict[str, Expectation]:
    """Return which stages a scenario passes through in a link, in their order; the classes in it are not the point."""
    world = World(link, DEFAULT, libc_registers=True, kernel_rseq="present", static_thread_pointer_first=False)
    return expectations(LIVES[scenario](world), world)


def all_cells(libc: str, links: Iterable[str], environments: Iterable[str]) -> list[Cell]:
    """Return every cell of these axes, in the order in which a table shows them."""
    where = {
        (link, stage): scenario for link in LINKS for scenario in LIVES for stage in scenario_stages(scenario, link)
    }
    return [
        Cell(libc, link, environment, stage, where[link, stage])
        for environment in environments
        for link in links
        for stage in STAGES
        if (link, stage) in where and exists_in(where[link, stage], environment)
    ]


def _matches(cell: Cell, pattern: str) -> bool:
    parts = pattern.split("/")
    if len(parts) == 1:
        return fnmatchcase(cell.stage, pattern)
    values = cell.id.split("/")
    return len(parts) == len(values) and all(map(fnmatchcase, values, parts))


def select(cells: Sequence[Cell], patterns: Iterable[str]) -> list[Cell]:
    """Return the cells that any of the globs names; all without a glob. A glob that names none is a UsageError."""
    wanted: set[str] = set()
    for pattern in patterns:
        found = {cell.id for cell in cells if _matches(cell, pattern)}
        if not found:
            example = cells[0].id if cells else "host/LIBC/LINK/ENVIRONMENT/STAGE"
            raise UsageError(
                f"no cell matches '{pattern}': a glob is a stage, like 'ifunc.*', or five parts, like '{example}' "
                "(`rseq-matrix stages` lists the stages)"
            )
        wanted |= found
    return [cell for cell in cells if cell.id in wanted] if wanted else list(cells)


def processes(cells: Iterable[Cell], absent: Mapping[str, str] | None = None) -> list[Process]:
    """Group the cells of one libc, and of environments that lack the same, into the processes that pass through them.

    absent: what is not there; a cell that needs it is in no process.
    """
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        if lacking(cell.stage, absent or {}):
            continue
        groups.setdefault((cell.environment, cell.link, cell.scenario), []).append(cell)
    left_out = tuple(name for name in STAGES if lacking(name, absent or {}))
    return [Process(key[2], key[1], key[0], tuple(group), left_out) for key, group in groups.items()]


def artifacts(process: Process) -> tuple[str, ...]:
    """Return the built files that the process needs, relative to the build directory."""
    scenario = SCENARIOS[process.scenario]
    names: tuple[str, ...] = (scenario.program, *scenario.executes)
    if process.link.startswith("dynamic"):
        names += scenario.preload + scenario.audit + scenario.opens
        names += tuple(filter(None, [ENVIRONMENTS[process.environment].preload]))
    return tuple(f"{process.link}/{name}" for name in names)


def command(process: Process) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the variables of the program, for its link's build directory as the working directory.

    Relative paths with a slash, because LD_PRELOAD splits at spaces and colons, and a home directory may have them.
    """
    scenario, environment = SCENARIOS[process.scenario], ENVIRONMENTS[process.environment]
    variables = dict(environment.variables)
    if process.link.startswith("dynamic"):
        preload = (*scenario.preload, *([environment.preload] if environment.preload else []))
        for variable, objects in (("LD_PRELOAD", preload), ("LD_AUDIT", scenario.audit)):
            if objects:
                variables[variable] = ":".join(name if environment.secure else f"./{name}" for name in objects)
    return [f"./{scenario.program}"], variables
