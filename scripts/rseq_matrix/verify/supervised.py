"""Runs a program that a subject may crash or hang, and leaves no process of it running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rseq_matrix.errors import MissingError
from rseq_matrix.signals import signal_name, undisturbed

POLL = 0.05  # seconds
TEXT_LIMIT = 4096  # bytes of standard error
STILL_RUNNING = "it was still running at its time limit and was killed"


@dataclass(frozen=True)
class ProgramEnd:
    """How the program ended, and what it printed."""

    status: int | None
    """As subprocess tells it: negative is a signal; None if it ran into its time limit and was killed."""
    output: str
    complaints: str

    @property
    def ending(self) -> str:
        """Say how it ended."""
        if self.status is None:
            return STILL_RUNNING
        ended = f"it was killed by {signal_name(-self.status)}" if self.status < 0 else f"exit status {self.status}"
        return f"{ended}: {self.complaints}" if self.complaints else ended


def _wait(process: subprocess.Popen[bytes], limit: float, tick: Callable[[float], None]) -> int | None:
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < limit:
        tick(elapsed)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(POLL)
    return None


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program with its group, and reap it.

    Not by Popen.wait(): a Ctrl-C between two instructions of Popen.wait(timeout) leaves its lock held for ever, and the
    next wait() would hang (CPython Lib/subprocess.py, Popen._wait).
    """
    with undisturbed():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    limit: float,
    tick: Callable[[float], None],
    descriptors: Sequence[int] = (),
) -> ProgramEnd:
    """Run it in a process group of its own, which is killed if it does not end within `limit` seconds, or on Ctrl-C.

    `tick` is called with the seconds so far, every POLL seconds.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=complaints,
                pass_fds=descriptors,
                start_new_session=True,
            )
        except OSError as error:
            raise MissingError(f"{command[0]} does not start: {error.strerror}") from error
        try:
            status = _wait(process, limit, tick)
        finally:
            if process.poll() is None:
                end(process)
        output.seek(0)
        complaints.seek(0)
        said = " ".join(complaints.read(TEXT_LIMIT).decode(errors="replace").split())
        return ProgramEnd(status, output.read().decode(errors="replace"), said)
