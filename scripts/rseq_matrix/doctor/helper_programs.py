"""Running the programs of csrc/doctor/. They print a line for each fact: "doctor <topic> <name> <value>"."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix.build import Build
from rseq_matrix.errors import MissingError

TIME_LIMIT = 5.0
"""Seconds; each takes a few milliseconds."""

Said = dict[str, dict[str, str]]


@dataclass(frozen=True)
class HelperOutput:
    """What a program printed, and its exit status, or the negative number of the signal that killed it."""

    said: Said
    status: int
    errors: str = ""

    def number(self, topic: str, name: str) -> int | None:
        """Return a number that it printed; None if it did not."""
        text = self.said.get(topic, {}).get(name)
        return None if text is None else int(text)

    def word(self, topic: str, name: str) -> str | None:
        """Return a word that it printed; None if it did not."""
        return self.said.get(topic, {}).get(name)


def parse(text: str) -> Said:
    """Return the facts in a program's output; other lines, as of a preloaded library, are ignored."""
    found: Said = {}
    for line in text.splitlines():
        parts = line.split(" ", 3)
        if len(parts) == 4 and parts[0] == "doctor":
            found.setdefault(parts[1], {})[parts[2]] = parts[3]
    return found


def helper(build: Build, name: str) -> Path:
    """Return the path of a program of csrc/doctor/. Raises MissingError if it could not be built."""
    path = build.directory / "doctor" / name
    if not path.is_file():
        raise MissingError(f"the program doctor/{name} could not be built: {build.failures.get(f'doctor/{name}', '?')}")
    return path


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> HelperOutput:
    """Run a program and return its output. Raises MissingError if it cannot be run."""
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
