"""The driver's side of the tracer: one request, one reply, over a socket (csrc/tracer_layout.h)."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix._native import ffi, lib
from rseq_matrix.documents.stage_trial import StageTrial
from rseq_matrix.errors import MissingError
from rseq_matrix.matrix.log import Log, Record, Tally
from rseq_matrix.signals import signal_name

TEXT_LIMIT = 4096
GRACE = 30.0
"""Seconds that the tracer may take to end what ran into its time limit."""

OUTCOMES = {
    lib.RSM_OUTCOME_ENDED: "ended",
    lib.RSM_OUTCOME_TIME_LIMIT: "time limit",
    lib.RSM_OUTCOME_NOT_STARTED: "not started",
    lib.RSM_OUTCOME_BAD_REQUEST: "bad request",
}


@dataclass(frozen=True)
class Run:
    """One process: how it ended, what it printed, what it recorded."""

    stages: tuple[str, ...]
    outcome: str
    wait_status: int
    error: int
    traced: bool
    trace_error: int
    strays: int
    pid: int
    seconds: float
    output: str
    complaints: str
    records: Mapping[str, Record]
    tallies: Mapping[str, Tally]
    trials: Mapping[str, StageTrial] = field(default_factory=dict)

    @property
    def ending(self) -> str:
        """Say how the process ended; empty if that was as it should."""
        if self.outcome == "not started":
            return f"the program could not be started: {os.strerror(self.error)}"
        if self.outcome == "time limit":
            return f"still running after {self.seconds:.1f} s and killed"
        if self.outcome != "ended":
            return f"the tracer failed: {self.outcome}"
        if os.WIFSIGNALED(self.wait_status):
            return f"killed by {signal_name(os.WTERMSIG(self.wait_status))}"
        status = os.waitstatus_to_exitcode(self.wait_status)
        return f"exit status {status}" if status else ""

    @property
    def unruly(self) -> str:
        """Say what the process did besides ending that it should not have done; empty if nothing."""
        if self.strays:
            return f"left {self.strays} stray process{'es' if self.strays > 1 else ''} behind"
        if self.output:
            return f"printed {self.output[:60]!r}"
        return ""

    @property
    def misbehaved(self) -> str:
        """Say what was wrong with the process as a whole; empty if nothing."""
        return "; ".join(filter(None, (self.ending, self.unruly)))

    @property
    def last_stage(self) -> str | None:
        """Return the last stage that was reached."""
        return tuple(self.records)[-1] if self.records else None


@dataclass(frozen=True)
class TracerPlan:
    """What to start, and how."""

    directory: Path
    arguments: Sequence[str]
    environment: Mapping[str, str]
    traced: int
    """enum rsm_traced."""
    time_limit: float
    """Seconds; then the process and all that it started are killed."""
    unlimited: bool = False
    """Files may be of any size, as tools need it that keep a program's memory in one."""


class Session:
    """One tracer process. It ends, and everything that it started with it, when this end of the socket is closed."""

    def __init__(self, tracer: Path, worker: int = 0) -> None:
        """Start the tracer. worker: which of those that run side by side it is."""
        self._tracer = tracer
        self._worker = worker
        self._closed = False
        self._socket, self._process = self._start()

    def _start(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                process = subprocess.Popen(
                    [str(self._tracer), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={},  # what the caller sets for its own programs is not meant for the tracer
                    start_new_session=True,  # a Ctrl-C at the terminal is the driver's to handle
                )
            except OSError as error:
                raise MissingError(f"the tracer {self._tracer} does not start: {error.strerror}") from error
        return ours, process

    def close(self) -> None:
        """End the tracer and wait until it has ended everything else. May be called from another thread."""
        self._closed = True
        with contextlib.suppress(OSError):  # it is gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._socket.close()

    def _restart(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._socket, self._process = self._start()

    def _exchange(self, message: bytes, descriptors: Sequence[int], deadline: float) -> bytes:
        """Send and wait. The answer of a tracer that is gone, or silent for `deadline` seconds, is empty."""
        self._socket.settimeout(deadline)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        try:
            self._socket.sendmsg([message], [rights])
            return self._socket.recv(4096)
        except OSError:
            return b""

    def run(self, plan: TracerPlan, log: Log) -> Run:
        """Run one process to its end, or to the time limit, and read its log."""
        request = ffi.new(
            "struct rsm_request *",
            {
                "magic": lib.RSM_REQUEST_MAGIC,
                "traced": plan.traced,
                "time_limit": max(1, int(plan.time_limit * 1000)),
                "argument_count": len(plan.arguments),
                "environment_count": len(plan.environment),
                "worker": self._worker,
                "unlimited": plan.unlimited,
            },
        )
        variables = [f"{name}={value}" for name, value in plan.environment.items()]
        strings = [str(plan.directory), *plan.arguments, *variables]
        message = bytes(ffi.buffer(request)) + b"".join(os.fsencode(text) + b"\0" for text in strings)
        output, complaints = (os.memfd_create(f"rseq-matrix-{name}") for name in ("output", "complaints"))
        try:
            answer = self._exchange(message, [log.descriptor, output, complaints], plan.time_limit + GRACE)
            return self._read(answer, log, bool(plan.traced), _text(output), _text(complaints))
        finally:
            os.close(output)
            os.close(complaints)

    def _read(self, answer: bytes, log: Log, traced: bool, output: str, complaints: str) -> Run:
        reply = ffi.new("struct rsm_reply *")
        if len(answer) == ffi.sizeof("struct rsm_reply"):
            ffi.buffer(reply)[:] = answer
            outcome = OUTCOMES[reply.outcome]
        else:
            outcome = "it ended without a reply"
            if not self._closed:
                self._restart()
        return Run(
            stages=log.stages,
            outcome=outcome,
            wait_status=reply.wait_status,
            error=reply.error,
            traced=traced and reply.trace_error == 0,
            trace_error=reply.trace_error,
            strays=reply.strays,
            pid=log.program_pid or reply.pid,
            seconds=reply.nanoseconds / 1e9,
            output=output,
            complaints=complaints,
            records=log.records(),
            tallies=log.tallies(),
            trials=log.trials(),
        )


def _text(descriptor: int) -> str:
    return os.pread(descriptor, TEXT_LIMIT, 0).decode(errors="replace").strip()
