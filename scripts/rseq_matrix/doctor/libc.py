"""The libc part of the host: its version, the package it came in, and the tunable, judged by what it does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from rseq_matrix.build import Build
from rseq_matrix.doctor.lines import Spoken, helper, run
from rseq_matrix.libcs.identity import UNREADABLE, interpreter_of

Document = dict[str, Any]

VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.pthread.rseq"
QUERIES = (
    ("dpkg-query", ("-S", "{path}")),
    ("rpm", ("-qf", "{path}")),
    ("apk", ("info", "--who-owns", "{path}")),
)
QUERY_LIMIT = 1.0


def asked_for(text: str | None) -> str | None:
    """Return the value that a GLIBC_TUNABLES gives to glibc.pthread.rseq, the last of several; None if none."""
    parts = [part.partition("=") for part in (text or "").split(":")]
    values = [value for name, equals, value in parts if equals and name == TUNABLE]
    return values[-1] if values else None


def _without(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != VARIABLE}


def tunable_document(build: Build, spoken: Spoken) -> Document:
    """Return what GLIBC_TUNABLES asks for, and whether it is that which switched rseq off: without it, it is on."""
    text = os.environ.get(VARIABLE)
    asked, size = asked_for(text), spoken.number("libc", "size")
    in_force = None
    if asked is not None and size is not None:
        off = size == 0
        without = run([helper(build, "place")], _without(os.environ)).number("libc", "size") if off else size
        in_force = bool(without) if off else asked not in ("0",)
    return {"text": text, "asked": asked, "in_force": in_force}


def _ask_package(path: str) -> str | None:
    for tool, arguments in QUERIES:
        if not shutil.which(tool):
            continue
        command = [tool, *(argument.format(path=path) for argument in arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_LIMIT, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip().splitlines()[0]
    return None


def _version_of(package: str) -> str:
    """Return a Debian package with its version."""
    command = ["dpkg-query", "-W", "-f", "${Package} ${Version}", package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return package
    return done.stdout.strip() or package


def package_of(build: Build) -> str | None:
    """Return the distribution's package that the dynamic linker came in; None where nobody knows it."""
    try:
        loader = os.path.realpath(interpreter_of(helper(build, "place")))
    except UNREADABLE:
        return None
    found = _ask_package(loader) or _ask_package(loader.removeprefix("/usr"))  # dpkg knows the path before the merge
    if found and ": /" in found:
        return _version_of(found.partition(": ")[0])
    return found


def libc_document(build: Build, spoken: Spoken) -> Document:
    """Return what is known of the system's libc."""
    return {
        "version": spoken.word("libc", "version"),
        "package": package_of(build),
        "size": spoken.number("libc", "size"),
        "offset": spoken.number("libc", "offset"),
        "flags": spoken.number("libc", "flags"),
        "tunable": tunable_document(build, spoken),
        "preload": os.environ.get("LD_PRELOAD") or None,
    }
