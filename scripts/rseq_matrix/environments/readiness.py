"""Whether an environment can be had here, and what it is like: found out by running two small programs in it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from rseq_matrix.build import Build
from rseq_matrix.environments.catalogue import ENVIRONMENTS, SCRATCH, Environment, Start, started
from rseq_matrix.kernels.host import answer_word
from rseq_matrix.model.timeline import KILLED
from rseq_matrix.signals import signal_name

TIME_LIMIT = 60.0
BASE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""Variables of the tools and of the program."""

ENTER = "enter"
EXPERIMENTS = {
    "clone_vm": ("clone_vm", "clone(CLONE_VM) is refused there unless it starts a thread"),
    "cancelled_call": ("cancellation", "a thread that waits in a system call cannot be cancelled there"),
    "dlmopen": ("new_namespace", "a new namespace, dlmopen(), cannot be had there"),
}
"""What stages need and an environment may lack: the program of csrc/detect, and what is said."""


@dataclass(frozen=True)
class Ready:
    """What is known of an environment before anything is judged in it."""

    hindrance: str = ""
    """Why it cannot be had here; empty if it can."""
    untrue: str = ""
    """Why it is not what it says, though it was brought about: what runs in it proves nothing."""
    answer: str = ""
    """What rseq(2) answers in it, in the words of World.kernel_rseq; empty: what the kernel does."""
    after_exec: str = ""
    """The same in an image that execve() started."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """What stages need that it does not have, and why that is believed."""


@cache
def _path_of(program: str) -> Path | None:
    found = shutil.which(program, path=BASE["PATH"] + ":/usr/local/bin")
    return Path(found) if found else None


def find_tool(environment: Environment) -> Path | None:
    """Return the path of the environment's tool; None if it needs none, or it is not there."""
    return _path_of(environment.tool.name) if environment.tool else None


def missing(environment: Environment) -> str:
    """Say which tool is missing and how to install it; empty if none is."""
    if not environment.tool or find_tool(environment):
        return ""
    return f"no {environment.tool.name} here; install it ({environment.tool.packages})"


def _run(build: Build, environment: Environment, tool: Path | None, link: str, name: str) -> tuple[int, str, str]:
    """Run a program of csrc/detect in an environment. Returns the exit status, negative for a signal, and the texts."""
    variables = {**environment.variables, **build.environment}
    if environment.preload and link.startswith("dynamic"):
        variables["LD_PRELOAD"] = f"./{environment.preload}"
    start = Start([f"./{name}"], variables, str(build.directory / ENTER))
    command = started(environment, tool, start)
    directory = build.directory / link
    try:
        done = subprocess.run(
            command, cwd=directory, env=BASE, capture_output=True, text=True, errors="replace",
            timeout=TIME_LIMIT, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return 126, "", str(error)
    return done.returncode, done.stdout, done.stderr


def _answers(build: Build, environment: Environment, tool: Path | None, link: str) -> tuple[Ready, list[str]]:
    """Ask in the environment. Returns what is known, and which signs of the environment are there."""
    status, output, complaints = _run(build, environment, tool, link, "answers")
    if status == -signal.SIGSYS:
        return Ready(answer=KILLED, after_exec=KILLED), [KILLED]
    said = output.splitlines()
    answers = [line for line in said if re.fullmatch(r"-?\d+", line)]
    if len(answers) != 2:
        ending = f"ended with {status}" if status >= 0 else f"was killed by {signal_name(-status)}"
        text = " ".join(complaints.split())[-200:]
        return Ready(f"the first program in it {ending}{f': {text}' if text else ''}"), said
    first, second = (answer_word(int(line)) for line in answers)
    return Ready(answer=first, after_exec=second), [first, *said]


def _untrue(environment: Environment, signs: list[str]) -> str:
    """Say that the environment is not there, though all went well; empty if it is."""
    if not environment.sign or any(re.fullmatch(environment.sign, sign) for sign in signs):
        return ""
    seen = ", ".join(sign for sign in signs if not re.fullmatch(r"-?\d+", sign))
    return f"the environment is not what it says: the first program in it saw {seen}, and no {environment.sign}"


def _absent(build: Build, environment: Environment, tool: Path | None, link: str) -> Iterator[tuple[str, str]]:
    """Yield what the environment lacks, and why that is believed."""
    for need, (program, words) in EXPERIMENTS.items():
        if f"{link}/{program}" in build.failures or not (build.directory / link / program).exists():
            continue
        status, _, complaints = _run(build, environment, tool, link, program)
        if status != 0:
            said = complaints.strip().splitlines()
            yield need, f"{words} ({said[0].strip() if said else f'exit status {status}'})"


def _secure(build: Build, environment: Environment, links: list[str]) -> Ready:
    """Find out whether a program can be given more rights than its user has, in a mount namespace of its own."""
    (build.directory / SCRATCH).mkdir(exist_ok=True)
    link = next((link for link in links if f"{link}/secure_mode" not in build.failures), "")
    status, _, complaints = _run(build, environment, None, link, "secure_mode") if link else (0, "", "")
    if status == 0:
        return Ready()
    said = complaints.strip().splitlines()
    why = said[0] if said else "it was started, and AT_SECURE was not set" if status == 1 else f"exit status {status}"
    return Ready(f"no program can be given more rights here, in a mount namespace ({why})")


def ready(build: Build, name: str, links: list[str]) -> Ready:
    """Find out what an environment is like. links: those that are wanted, and can be linked."""
    environment = ENVIRONMENTS[name]
    if not environment.wrapped and not environment.preload:
        return Ready()
    if environment.secure:
        return _secure(build, environment, links)
    lost = missing(environment)
    if lost:
        return Ready(lost)
    tool = find_tool(environment)
    link = next((link for link in links if f"{link}/answers" not in build.failures), "")
    if not link:
        return Ready()
    found, signs = _answers(build, environment, tool, link)
    untrue = "" if found.hindrance else _untrue(environment, signs)
    if found.hindrance or untrue or environment.steps:
        return replace(found, untrue=untrue)
    return replace(found, absent=dict(_absent(build, environment, tool, link)))
