"""The host's libc: its version, its package, and whether the tunable glibc.pthread.rseq has an effect."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from rseq_matrix.build import Build
from rseq_matrix.doctor.helper_programs import HelperOutput, helper, run
from rseq_matrix.documents.doctor import TUNABLE, ExaminedLibc, TunableSetting
from rseq_matrix.libcs.identity import UNREADABLE, interpreter_of

DPKG = "dpkg-query"
VARIABLE = "GLIBC_TUNABLES"
QUERIES = ((DPKG, ("-S",)), ("rpm", ("-qf",)), ("apk", ("info", "--who-owns")))
QUERY_LIMIT = 1.0


def asked_for(text: str | None) -> str | None:
    """Return the value that a GLIBC_TUNABLES gives to glibc.pthread.rseq, the last of several; None if none."""
    parts = [part.partition("=") for part in (text or "").split(":")]
    values = [value for name, equals, value in parts if equals and name == TUNABLE]
    return values[-1] if values else None


def _without(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != VARIABLE}


def _tunable(build: Build, said: HelperOutput) -> TunableSetting:
    """Return what GLIBC_TUNABLES contains, and whether it is what switches rseq off: rseq is on without it then."""
    text = os.environ.get(VARIABLE)
    asked, size = asked_for(text), said.number("libc", "size")
    in_force = None
    if asked is not None and size is not None:
        off = size == 0
        without = run([helper(build, "place")], _without(os.environ)).number("libc", "size") if off else size
        in_force = bool(without) if off else asked not in ("0",)
    return TunableSetting(text, asked, in_force)


class PackageQuery:
    """A query to the distribution's package manager, which runs beside the experiments."""

    def __init__(self, build: Build) -> None:
        """Ask for the package that the dynamic linker came in."""
        self.tool = ""
        self.process: subprocess.Popen[str] | None = None
        try:
            loader = os.path.realpath(interpreter_of(helper(build, "place")))
        except UNREADABLE:
            return
        self._ask([loader, loader.removeprefix("/usr")])  # dpkg may know the path before the merge

    def _ask(self, paths: list[str]) -> None:
        for tool, arguments in QUERIES:
            if shutil.which(tool):
                self.tool = tool
                quiet = subprocess.DEVNULL
                command = [tool, *arguments, *(paths if tool == DPKG else paths[:1])]
                self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, stdin=quiet, text=True)
                return

    def answer(self) -> str | None:
        """Return the package with its version; None where no package manager knows it."""
        if self.process is None:
            return None
        try:
            said = self.process.communicate(timeout=QUERY_LIMIT)[0].strip().splitlines()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            return None
        if not said or (self.tool != DPKG and self.process.returncode):
            return None
        return _version_of(said[0].partition(": ")[0]) if self.tool == DPKG else said[0]


def _version_of(package: str) -> str:
    """Return a Debian package with its version."""
    command = [DPKG, "-W", "-f", "${Package} ${Version}", package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return package
    return done.stdout.strip() or package


def host_libc(build: Build, said: HelperOutput, package: str | None) -> ExaminedLibc:
    """Return what is known of the system's libc."""
    return ExaminedLibc(
        version=said.word("libc", "version"),
        package=package,
        tunable=_tunable(build, said),
        preload=os.environ.get("LD_PRELOAD") or None,
        size=said.number("libc", "size"),
        offset=said.number("libc", "offset"),
        flags=said.number("libc", "flags"),
    )
