"""Running the programs of csrc/doctor/, and what they say: one line a fact, "doctor <who> <name> <value>"."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix.build import Build
from rseq_matrix.errors import MissingError

TIME_LIMIT = 5.0
"""Seconds; each takes a few thousandths of one."""

Said = dict[str, dict[str, str]]


@dataclass(frozen=True)
class HelperOutput:
    """What a program said, and how it ended: its exit status, or the negative number of the signal that killed it."""

    said: Said
    status: int
    errors: str = ""

    def number(self, who: str, name: str) -> int | None:
        """Return a number that it said; None if it did not."""
        text = self.said.get(who, {}).get(name)
        return None if text is None else int(text)

    def word(self, who: str, name: str) -> str | None:
        """Return a word that it said; None if it did not."""
        return self.said.get(who, {}).get(name)


def parse(text: str) -> Said:
    """Return what is said in a program's output; other lines, a preloaded library's say, are passed over."""
    found: Said = {}
    for line in text.splitlines():
        parts = line.split(" ", 3)
        if len(parts) == 4 and parts[0] == "doctor":
            found.setdefault(parts[1], {})[parts[2]] = parts[3]
    return found


def helper(build: Build, name: str) -> Path:
    """Return a program of csrc/doctor/. One that could not be built is a MissingError."""
    path = build.directory / "doctor" / name
    if not path.is_file():
        raise MissingError(f"the program doctor/{name} could not be built: {build.failures.get(f'doctor/{name}', '?')}")
    return path


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> HelperOutput:
    """Run a program and hear it out."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ if environment is None else environment,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        return HelperOutput(
            parse(output.decode("utf-8", "replace") if isinstance(output, bytes) else output), -9, "it hangs"
        )
    except OSError as error:
        raise MissingError(f"{command[0]} cannot be run: {error.strerror}") from error
    return HelperOutput(parse(done.stdout), done.returncode, done.stderr)
