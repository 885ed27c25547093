"""What a libc offers to the stages, found out by programs that try it (csrc/detect/offers), before anything is built.

A program that cannot be linked, does not start, or fails tells that the libc does not have what it tries: the code that
needs it is then left out of the build, and the stages that it would fire are UNSUPPORTED, with the sentence from here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix.errors import InputError, in_words
from rseq_matrix.libcs.toolchain import Parts, Toolchain
from rseq_matrix.signals import signal_name

START = "start"
ABSENCES = {
    "libc_version": "this libc does not tell its version",
    "on_exit": "this libc has no on_exit()",
    "thread_atexit": "this libc has no __cxa_thread_atexit_impl()",
    "makecontext": "this libc has no makecontext()",
    "dlmopen": "this libc cannot load an object into a new namespace, dlmopen()",
    "dlclose": "dlclose() of this libc unloads nothing",
    "ifunc": "this libc applies no IRELATIVE relocation, so it has no indirect functions",
    "preinit_array": "this libc does not call DT_PREINIT_ARRAY",
    "cancellation": "threads of this libc cannot be unwound: libgcc_s.so.1 does not suit it",
    "recycled_stack": "this libc keeps no stacks of ended threads",
    "audit": "this dynamic linker knows no audit libraries, LD_AUDIT",
}
"""What is said where an offer is not there."""

NOT_CONSTRUCTED = "exit status 3"
"""How the program START ends where constructors are not called."""

OBJECTS = {"audit": "audit", "dlclose": "dlclose_object"}
"""The offers that need a shared object."""

TIME_LIMIT = 20
SAID = re.compile(r"(undefined reference to [`'][^'`]+'|fatal error: [^\n]+|error: [^\n]+|Error \w[^\n]+)")


@dataclass(frozen=True)
class OfferTools:
    """Where and how the programs are made and run."""

    sources: Path
    directory: Path
    compiler: Sequence[str]
    tools: Toolchain
    include: str = "."
    hindered: list[str] = field(default_factory=list)
    """What could not be tried to its end, which says nothing about the libc."""

    def link(self, name: str, kind: Sequence[str], parts: Parts) -> str:
        """Make one file. Returns what was wrong; empty if nothing."""
        own = [] if self.tools.key else ["-pthread", "-ldl"]
        command = [*self.compiler, *kind, *self.tools.compile, *parts.before, str(self.sources / f"{name}.c")]
        command += [*parts.after, *own, f"-I{self.include}", "-o", str(self.directory / name)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT * 3, check=False,
                env=self.tools.build_environment,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            self.hindered.append(in_words(error))
            return in_words(error)
        return "" if done.returncode == 0 else _said(done.stderr) or "it cannot be linked"

    def run(self, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str] | str:
        """Run one program. Returns how it ended, or why it could not be started."""
        try:
            return subprocess.run(
                [self.directory / name, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                env={**self.tools.environment, **environment},
                timeout=TIME_LIMIT,
                check=False,
                cwd=self.directory,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self.hindered.append(in_words(error))
            return in_words(error)

    def _judge(self, name: str, arguments: Sequence[str], audit: str) -> str:
        """Run the program of an offer. Returns what was wrong; empty if nothing."""
        done = self.run(name, *arguments, **({"LD_AUDIT": audit} if audit else {}))
        if isinstance(done, str):
            return done
        if audit and "audited" not in done.stdout:
            return _said(done.stderr) or "the library was not called"
        return "" if done.returncode == 0 else _said(done.stderr) or _ending(done.returncode)

    def try_program(self, name: str) -> str:
        """Make and run the program of an offer. Returns what was wrong; empty if the offer is there."""
        wrong = ""
        if name in OBJECTS:
            wrong = self.link(OBJECTS[name], ["-fPIC", "-shared"], self.tools.object)
        if not wrong and name != "audit":
            wrong = self.link(name, ["-fPIE", "-pie"], self.tools.program)
        if wrong:
            return wrong
        path = str(self.directory / OBJECTS.get(name, ""))
        return self._judge(START, [], path) if name == "audit" else self._judge(name, [path], "")


def _said(text: str) -> str:
    found = SAID.search(text)
    return " ".join(found[1].split())[:160] if found else " ".join(text.split())[:160]


def _ending(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"killed by {signal_name(-code)}"


def _why_it_does_not_start(wrong: str, tools: Toolchain) -> str:
    """Explain the end of START, where it is known what it comes from."""
    files = [name for name in tools.borrowed if name.endswith(".o")]
    if wrong != NOT_CONSTRUCTED or not files:
        return wrong
    return (
        f"constructors are not called with the start files of the system ({', '.join(files)}), which fit only libcs "
        "since glibc 2.34; install its development package there (Debian: libc6-dev)"
    )


def absent_offers(bench: OfferTools, where: str) -> dict[str, str]:
    """Return what the libc does not have, and what is said of it.

    where: the directory that a libc was given by; a libc there to which no program can be linked, or on which none
    runs, is an InputError.
    """
    bench.directory.mkdir(parents=True, exist_ok=True)
    try:
        wrong = bench.try_program(START)
        if wrong and bench.tools.key:
            raise InputError(
                f"the libc in {where} cannot be used: a program that is linked to it does not run: "
                f"{_why_it_does_not_start(wrong, bench.tools)}"
            )
        if wrong:
            return {}  # the build will say it better
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            tried = dict(zip(ABSENCES, pool.map(bench.try_program, ABSENCES), strict=True))
    finally:
        shutil.rmtree(bench.directory, ignore_errors=True)
    return {name: f"{ABSENCES[name]} ({wrong})" for name, wrong in tried.items() if wrong}
