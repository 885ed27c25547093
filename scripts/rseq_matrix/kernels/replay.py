"""Makes calls of rseq(2) for real, in children of csrc/explain/calls.c, in which nobody has registered before."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix.build import Build
from rseq_matrix.errors import MissingError
from rseq_matrix.kernels.rules import READ_ONLY, UNMAPPED, WRITABLE
from rseq_matrix.kernels.sequences import BASES, SIZE, CallStep
from rseq_matrix.signals import signal_name

TIME_LIMIT = 60
HIDDEN = ("GLIBC_TUNABLES", "LD_PRELOAD", "LD_AUDIT", "LD_BIND_NOW")
"""Variables by which a person may have changed what programs do; an experiment is not to be changed by them."""
UNREGISTERED = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
REASONS = {
    3: "the child got no memory at the addresses that it needs",
    4: "a child cannot be had in which rseq is not registered",
    5: "no seccomp filter can be installed here",
}
"""What the exit status of csrc/explain/calls.c says."""


@dataclass(frozen=True)
class ReplayedStep:
    """What was seen of a step."""

    word: str
    """The errno, 0 where it succeeded, or the signal that it ended the child with."""
    cpu_id: int | None = None
    """In the area of the call afterwards; None if that could not be read."""


def plain_environment(**more: str) -> dict[str, str]:
    """Return the environment for an experiment."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return {**kept, "LC_ALL": "C", **more}


def program(build: Build, name: str) -> Path:
    """Return a program of csrc/explain."""
    key = f"explain/{name}"
    path = build.directory / key
    if key in build.failures or not path.is_file():
        raise MissingError(f"the program {key} could not be built: {build.failures.get(key, 'it is not there')}")
    return path


def _seen(word: str) -> ReplayedStep:
    answer, _, rest = word.partition(":")
    if answer == "killed":
        return ReplayedStep(signal_name(int(rest)))
    number = int(answer)
    name = "0" if number == 0 else errno.errorcode.get(number, str(number))
    return ReplayedStep(name, None if rest == "-" else int(rest))


class Player:
    """Plays sequences of steps."""

    def __init__(self, path: Path, environment: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._environment = plain_environment(**UNREGISTERED) if environment is None else environment

    def play(self, sequences: Sequence[Sequence[CallStep]]) -> list[list[ReplayedStep]]:
        """Return what was seen of each step of each sequence, up to one that ended its child."""
        lines = [" ".join(step.text() for step in sequence) for sequence in sequences]
        memory = [hex(number) for number in (BASES[WRITABLE], BASES[READ_ONLY], BASES[UNMAPPED], SIZE)]
        try:
            done = subprocess.run(
                [self._path, *memory],
                input="".join(f"{line}\n" for line in lines),
                capture_output=True,
                text=True,
                errors="replace",
                env=self._environment,
                timeout=TIME_LIMIT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingError(f"the calls of rseq(2) could not be tried: {error}") from error
        found = [[_seen(word) for word in line.split()] for line in done.stdout.splitlines()]
        if done.returncode != 0 or len(found) != len(sequences):
            reason = REASONS.get(done.returncode, f"the child ended with {done.returncode}")
            raise MissingError(f"the calls of rseq(2) could not be tried: {reason} {done.stderr.strip()}".strip())
        return found

    def answer(self, steps: Sequence[CallStep]) -> ReplayedStep:
        """Return what was seen of the last step of one sequence, or of the one that ended the child."""
        return self.play([steps])[0][-1]
