"""The C compiler: where it is, what it finds by itself, and which links it can make."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rseq_matrix.errors import MissingError

PACKAGES = {
    "compiler": "Debian: apt install gcc libc6-dev; Fedora: dnf install gcc glibc-devel; Alpine: apk add gcc musl-dev",
    "static libc": "Debian: apt install libc6-dev; Fedora: dnf install glibc-static; Alpine: apk add musl-dev",
}
LINKED = ("libc.so.6", "libc.so", "libc.a", "crt1.o", "ld-linux-x86-64.so.2")
"""What the compiler finds by itself and links, or what its programs start with."""


def find_compiler() -> list[str]:
    """Return the C compiler's command: $CC, or cc, or gcc. Without one it is a MissingError."""
    wanted = os.environ.get("CC", "").split()
    for command in [wanted] if wanted else [["cc"], ["gcc"]]:
        path = shutil.which(command[0])
        if path:
            return [path, *command[1:]]
    name = wanted[0] if wanted else "cc"
    raise MissingError(f"no C compiler: '{name}' is not on the PATH; install one ({PACKAGES['compiler']})")


def output_of(command: list[str]) -> str:
    """Return what a command prints, without blanks around it; empty where it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def unsupported_links(compiler: list[str]) -> dict[str, str]:
    """Return the links that cannot be linked for want of a file, with the reason and the package."""
    missing = {}
    for link, names in (("static", ("libc.a",)), ("static-pie", ("libc.a", "rcrt1.o"))):
        lost = [name for name in names if find_file(compiler, name) is None]
        if lost and output_of([*compiler, "-dumpmachine"]):
            missing[link] = f"{' and '.join(lost)} not found; install it ({PACKAGES['static libc']})"
    return missing


def find_file(compiler: Sequence[str], name: str, environment: Mapping[str, str] | None = None) -> Path | None:
    """Ask the compiler where a start file or library is; it answers with the bare name if it has none."""
    command = [*compiler, f"-print-file-name={name}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    path = Path(done.stdout.strip())
    return path if path.is_absolute() and path.exists() else None


def linked_state(compiler: Sequence[str]) -> str:
    """Return the compiler and what it links by itself, so that what is known of these ends with an update of them."""
    words = [*compiler]
    for file in (Path(compiler[0]).resolve(), *(find_file(compiler, name) for name in LINKED)):
        if file:
            state = file.resolve().stat()
            words.append(f"{file} {state.st_size} {state.st_mtime_ns}")
    return "\0".join(words)
