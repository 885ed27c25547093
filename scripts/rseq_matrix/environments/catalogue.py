"""The environments: what can surround a process, how it is brought about, and what that means for rseq.

Each is a real one. What a program is wrapped in is a command line; what no command can do from outside, the scenarios'
programs do themselves in main() (csrc/host/host_environment.c). `enter` (csrc/environment/enter.c) is the last step
before a program: it installs filters, and gives the program variables that the tool around it must not see, LD_PRELOAD.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rseq_matrix._native import lib
from rseq_matrix.errors import UsageError
from rseq_matrix.model.timeline import Conditions

TUNABLE_OFF = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
ALL = "all"
"""Stands for every environment."""

OWN_AREA, LATE_FILTER = int(lib.RSM_HOST_OWN_AREA), int(lib.RSM_HOST_LATE_FILTER)
NOT_TRACED, TRACED, STEPPED = int(lib.RSM_TRACED_NOT), int(lib.RSM_TRACED_RECORDS), int(lib.RSM_TRACED_STEPPED)
SCRATCH = "secure-root"
"""A directory of the build, for a mount."""

VALGRIND_TOOLS = ("/usr/libexec/valgrind", "/usr/lib/valgrind", "/usr/lib/x86_64-linux-gnu/valgrind")


@dataclass(frozen=True)
class Start:
    """A program that is to be started in an environment."""

    arguments: Sequence[str]
    variables: Mapping[str, str]
    """Of the program alone."""
    enter: str
    """The path of csrc/environment/enter.c."""
    log: str = ""
    """The log's path, where its descriptor does not get through."""
    debugger: Sequence[str] = ("run",)
    """What a debugger does with it."""
    directory: str = ""
    """Where a secure program starts; empty: where it lies."""
    subject: str = ""
    """The path of an object that ld.so shall find for a secure program, as rsm_subject.so."""

    def entered(self, *steps: str) -> list[str]:
        """Return the command that takes the last step."""
        own = [f"{name}={value}" for name, value in self.variables.items()]
        return [self.enter, *steps, "--", *own, "--", *self.arguments]


@dataclass(frozen=True)
class Tool:
    """A program that an environment is made of."""

    name: str
    packages: str
    """How to install it."""
    command: Callable[[Path, Start], list[str]]
    """The whole command line, from the tool's path."""


def _valgrind(path: Path, start: Start) -> list[str]:
    """Start valgrind's tool itself: its launcher is a dynamic program, which would load what is preloaded, natively."""
    tool = next((found for place in VALGRIND_TOOLS if (found := Path(place) / "none-amd64-linux").exists()), path)
    launcher = path.with_name("valgrind.bin")
    own = {**start.variables, "VALGRIND_LAUNCHER": str(launcher if launcher.exists() else path)}
    arguments = [str(tool), "--tool=none", "-q", "--trace-children=yes", *start.arguments]
    return Start(arguments, own, start.enter).entered()


def _qemu(path: Path, start: Start) -> list[str]:
    """Give the variables by option: qemu-user does not follow an execve(), so `enter` would lead out of it."""
    own = [word for name, value in start.variables.items() for word in ("-E", f"{name}={value}")]
    return [str(path), *own, *start.arguments]


def _gvisor(path: Path, start: Start) -> list[str]:
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    sandbox = [str(path), "--network=none", *rootless, "do", "-quiet", "-force-overlay=false"]
    return [*sandbox, *start.entered(*([f"log={start.log}"] if start.log else []))]


GDB_SETTINGS = (
    "set confirm off",
    "set startup-with-shell on",  # without one, gdb cuts arguments at their spaces (nat/fork-inferior.c)
    "set auto-solib-add off",
    "set debuginfod enabled off",
    "handle all nostop noprint pass",
    "handle SIGINT nostop noprint pass",  # which "all" leaves out: gdb uses it itself
)
GDB_SHELL = "/bin/sh"
"""Of gdb alone; the program has its user's."""
GDB_END = "quit $_isvoid($_exitcode) ? 128 + $_exitsignal : $_exitcode"


def _gdb(path: Path, start: Start) -> list[str]:
    script = [word for line in (*GDB_SETTINGS, *start.debugger, GDB_END) for word in ("-ex", line)]
    own = {**({"SHELL": os.environ["SHELL"]} if "SHELL" in os.environ else {}), **start.variables}
    program = replace(start, variables=own).entered("output=restore")
    debugger = [str(path), "-batch", "-nx", *script, "--args", *program]
    return Start(debugger, {"SHELL": GDB_SHELL}, start.enter).entered("output=save")


def _strace(path: Path, start: Start) -> list[str]:
    return [str(path), "-f", "-qq", "-o", "/dev/null", *start.entered()]


@dataclass(frozen=True)
class Environment:
    """What surrounds a process. The fields from `tunable_off` on are what the model is told."""

    name: str
    summary: str
    variables: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    """Of `enter`."""
    tool: Tool | None = None
    preload: str = ""
    """An object that is preloaded behind the scenario's own."""
    stand_in: str = ""
    """An object that does, preloaded, for any program what the scenarios' programs do themselves."""
    program_does: int = 0
    """What the program does itself: a set of enum rsm_host_environment."""
    trace: int = TRACED
    """Whether the tracer can look inside (enum rsm_traced): two tracers cannot have one process."""
    log_in_file: bool = False
    """No descriptor gets through, and no offset of a file that is standard output."""
    secure: bool = False
    """The program has more rights than its user: ld.so finds objects by their names only, in its own directories."""
    slowness: int = 1
    """How many times longer a process may take."""
    needs_loader: str = ""
    """Why a static program cannot have it; empty if it can."""
    sign: str = ""
    """What csrc/detect/answers.c tells in it and nowhere else, a pattern: without it the environment is not there."""
    tunable_off: bool = False

    @property
    def wrapped(self) -> bool:
        """Return whether the program is started by another."""
        return bool(self.tool or self.steps or self.secure)

    @property
    def own_area(self) -> bool:
        """Return whether the program registers areas of its own."""
        return bool(self.program_does & OWN_AREA)

    @property
    def late_filter(self) -> bool:
        """Return whether rseq(2) is refused from main() on."""
        return bool(self.program_does & LATE_FILTER)

    @property
    def conditions(self) -> Conditions:
        """Return what the model is told."""
        return Conditions(self.tunable_off, self.own_area, self.late_filter, self.stepped)

    @property
    def stepped(self) -> bool:
        """Return whether every instruction is single-stepped."""
        return self.trace == STEPPED


_GVISOR = Tool("runsc", "Debian: apt install runsc; others: gvisor.dev", _gvisor)
_VALGRIND = Tool(
    "valgrind", "Debian: apt install valgrind; Fedora: dnf install valgrind; Alpine: apk add valgrind", _valgrind
)
_GDB = Tool("gdb", "Debian: apt install gdb; Fedora: dnf install gdb; Alpine: apk add gdb", _gdb)
_QEMU = Tool(
    "qemu-x86_64",
    "Debian: apt install qemu-user; Fedora: dnf install qemu-user; Alpine: apk add qemu-x86_64",
    _qemu,
)
_STRACE = Tool("strace", "Debian: apt install strace; Fedora: dnf install strace; Alpine: apk add strace", _strace)

_ALL = (
    Environment("default", "nothing special"),
    Environment("tunable-off", "GLIBC_TUNABLES=glibc.pthread.rseq=0", TUNABLE_OFF, tunable_off=True),
    Environment(
        "self-registered",
        "rseq is switched off in libc, and the program registers areas of its own, as with librseq",
        TUNABLE_OFF,
        program_does=OWN_AREA,
        stand_in="rsm_own_area.so",
        tunable_off=True,
    ),
    Environment(
        "seccomp-enosys",
        "a filter answers rseq(2) with ENOSYS, from the start",
        steps=("filter=enosys",),
        sign="ENOSYS",
    ),
    Environment(
        "seccomp-eperm", "a filter answers rseq(2) with EPERM, from the start", steps=("filter=eperm",), sign="EPERM"
    ),
    Environment(
        "seccomp-late",
        "the program installs such a filter in main()",
        program_does=LATE_FILTER,
        stand_in="rsm_late_filter.so",
    ),
    Environment(
        "seccomp-kill", "a filter kills the process at its first call of rseq(2)", steps=("filter=kill",), sign="SIGSYS"
    ),
    Environment(
        "seccomp-fake",
        "a filter answers success, and nothing is registered",
        steps=("filter=fake",),
        sign="success",
    ),
    Environment(
        "gvisor",
        "in gVisor's sandbox, runsc do",
        tool=_GVISOR,
        slowness=4,
        trace=NOT_TRACED,
        log_in_file=True,
        sign="kernel:gVisor",
    ),
    Environment(
        "valgrind", "under valgrind", tool=_VALGRIND, slowness=4, trace=NOT_TRACED, sign="name:(none-amd64|valgrind).*"
    ),
    Environment("gdb", "under gdb, running free", tool=_GDB, slowness=4, trace=NOT_TRACED, sign="tracer:gdb.*"),
    Environment(
        "qemu-user", "under qemu's user-mode emulation", tool=_QEMU, trace=NOT_TRACED, sign="name:qemu-x86_64.*"
    ),
    Environment(
        "secure",
        "as a program with more rights than its user (AT_SECURE), where ld.so ignores the tunable that is set here",
        TUNABLE_OFF,
        secure=True,
    ),
    Environment(
        "strace",
        "under strace, which stops it at each system call",
        tool=_STRACE,
        trace=NOT_TRACED,
        sign="tracer:strace.*",
    ),
    Environment(
        "static-tls-tight",
        "the surplus of static TLS is exhausted before main()",
        preload="rsm_tight.so",
        needs_loader="a static program loads nothing, so it has no surplus of static TLS that could be exhausted",
        sign=r"object:rsm_tight\.so",
    ),
    Environment("ptrace-singlestep", "a tracer single-steps every instruction", trace=STEPPED, slowness=20),
)

ENVIRONMENTS: dict[str, Environment] = {environment.name: environment for environment in _ALL}


def environment_of(name: str) -> Environment:
    """Return an environment by its name. An unknown one is a UsageError."""
    if name not in ENVIRONMENTS:
        raise UsageError(f"unknown environment '{name}': known are {', '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[name]


def choose_environments(asked: Sequence[str], globs: Iterable[str], default: Sequence[str]) -> list[str]:
    """Return the names of those that are meant, in the order of the axis.

    asked: names, or "all"; empty: the default, and those that the globs of cell ids name.
    """
    if ALL in asked:
        return list(ENVIRONMENTS)
    named = (parts[3] for parts in (glob.split("/") for glob in globs) if len(parts) == 5)
    meant = {environment_of(name).name for name in asked} or {*default, *named}
    return [name for name in ENVIRONMENTS if name in meant]


def system_libraries() -> Path:
    """Return the directory of the system's libc.so.6, where ld.so looks for a secure program's libraries."""
    mapped = (line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines())
    libc = next((path for path in mapped if Path(path).name == "libc.so.6"), "/usr/lib/libc.so.6")
    return Path(libc).resolve().parent


def started(environment: Environment, tool: Path | None, start: Start) -> list[str]:
    """Return the command line that starts a program in an environment. tool: the path of its tool, if it has one."""
    if environment.tool and tool:
        return environment.tool.command(tool, start)
    if environment.secure:
        helper, scratch = Path(start.enter).with_name("secure"), Path(start.enter).with_name(SCRATCH)
        places = (str(scratch), str(system_libraries()), start.directory, start.subject)
        return [str(helper), *places, *start.entered()[1:]]
    return start.entered(*environment.steps)
