"""The log that the scenarios write into, and its records as Python values. The layout is csrc/record_layout.h."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rseq_matrix._native import ffi, lib
from rseq_matrix.documents.stage_trial import StageTrial
from rseq_matrix.matrix.trial import SubjectPlan, decode_trial, write_plan
from rseq_matrix.model.stages import STAGES

SIZE = int(ffi.sizeof("struct rsm_log"))
PATHS = {lib.RSM_PATH_NONE: "none", lib.RSM_PATH_FAST: "fast", lib.RSM_PATH_FALLBACK: "fallback"}
SECTIONS = {lib.RSM_SECTION_NONE: None, lib.RSM_SECTION_ABORTED: "aborted", lib.RSM_SECTION_CONTINUED: "continued"}
REACHED = {lib.RSM_REACHED_START: "start", lib.RSM_REACHED_MAIN: "main", lib.RSM_REACHED_EXIT: "exit"}
SUBJECT = str(ffi.string(lib.rsm_native_subject_name).decode())
SIGNATURE = int(lib.rsm_native_signature)
SABOTAGE: dict[str, int] = {
    name.removeprefix("RSM_SABOTAGE_").lower().replace("_", "-"): int(getattr(lib, name))
    for name in dir(lib)
    if name.startswith("RSM_SABOTAGE_")
}


def _possible_cpus() -> int:
    """Return how many CPU numbers this kernel can give; all that the log has room for, if it does not say."""
    try:
        last = Path("/sys/devices/system/cpu/possible").read_text().strip().rpartition("-")[2].rpartition(",")[2]
        return min(int(last) + 1, int(lib.RSM_CPU_MAX))
    except (OSError, ValueError):
        return int(lib.RSM_CPU_MAX)


CPUS = _possible_cpus()


@dataclass(frozen=True)
class Oracle:
    """What the tracer read: the kernel's registration for the thread, at the moment of the record."""

    address: int
    size: int
    signature: int

    @property
    def registered(self) -> bool:
        """Return whether an area was registered."""
        return self.address != 0


@dataclass(frozen=True)
class Record:
    """One stage's observation. None stands for what could not be known."""

    stage: str
    complete: bool
    sequence: int
    pid: int
    tid: int
    relocated: bool
    section: str | None
    thread_pointer: int
    rseq_size: int | None
    rseq_offset: int | None
    rseq_flags: int | None
    area_address: int | None
    cpu_id: int | None
    cpu_id_start: int | None
    getcpu: int
    sched_getcpu: int | None
    query_size: int
    query_errno: int
    kernel_registered: bool | None
    oracle: Oracle | None
    oracle_errno: int
    path: str
    attempted: int
    aborts: int
    build_id: str | None
    libc_version: str | None
    reached: str
    """How far the main program had come: "start" (before main()), "main" or "exit"."""


@dataclass(frozen=True)
class Tally:
    """What happened at one stage's counter over the whole process tree."""

    firings: int
    attempted: int
    committed: int


def _decode(name: str, raw: Any) -> Record:
    """Read a struct rsm_record."""
    symbols = raw.known & lib.RSM_KNOWN_SYMBOLS
    area = raw.known & lib.RSM_KNOWN_AREA
    return Record(
        stage=name,
        complete=raw.state == lib.RSM_RECORD_COMPLETE and raw.stage == STAGES[name].number,
        sequence=raw.sequence,
        pid=raw.pid,
        tid=raw.tid,
        relocated=bool(raw.relocated),
        section=SECTIONS.get(raw.section),
        thread_pointer=raw.thread_pointer,
        rseq_size=raw.rseq_size if symbols else None,
        rseq_offset=raw.rseq_offset if symbols else None,
        rseq_flags=raw.rseq_flags if symbols else None,
        area_address=raw.area_address if area else None,
        cpu_id=raw.area_cpu_id if area else None,
        cpu_id_start=raw.area_cpu_id_start if area else None,
        getcpu=raw.getcpu,
        sched_getcpu=None if raw.sched_getcpu == lib.RSM_UNKNOWN else raw.sched_getcpu,
        query_size=raw.query_size,
        query_errno=raw.query_errno,
        kernel_registered=bool(raw.kernel_registered) if raw.known & lib.RSM_KNOWN_KERNEL else None,
        oracle=Oracle(raw.oracle_address, raw.oracle_size, raw.oracle_signature) if raw.oracle_present else None,
        oracle_errno=raw.oracle_errno,
        path=PATHS.get(raw.subject_path, "none"),
        attempted=raw.subject_attempted,
        aborts=raw.subject_aborts,
        build_id=bytes(raw.build_id).hex() if raw.known & lib.RSM_KNOWN_BUILD_ID else None,
        libc_version=ffi.string(raw.libc_version).decode(errors="replace") or None,
        reached=REACHED.get(raw.reached, "start"),
    )


class Log:
    """A log in anonymous memory, shared by descriptor with the processes of one run."""

    def __init__(
        self,
        stages: Iterable[str],
        sabotage: Mapping[str, str] | None = None,
        subject: SubjectPlan | None = None,
        program_does: int = 0,
        in_file: bool = False,
    ) -> None:
        """Enable `stages`; plant the named defects, which only probes built for them obey.

        subject: what works at the stages instead of the probes' own counters. program_does: what the program does
        itself (enum rsm_host_environment). in_file: the log is a file with a path, for a process that inherits no
        descriptor.
        """
        self.stages = tuple(stages)
        self.path = ""
        if in_file:
            self.descriptor, self.path = tempfile.mkstemp(prefix="rseq-matrix-log-")
        else:
            self.descriptor = os.memfd_create("rseq-matrix-log", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, SIZE)
        self._memory = mmap.mmap(self.descriptor, SIZE)
        self._log = ffi.from_buffer("struct rsm_log *", self._memory)
        self._log.magic = lib.RSM_LOG_MAGIC
        self._log.size = SIZE
        self._log.host_environment = program_does
        for name in self.stages:
            self._log.stage[STAGES[name].number].enabled = 1
        for name, kind in (sabotage or {}).items():
            self._log.stage[STAGES[name].number].sabotage = SABOTAGE[kind]
        self._planned = subject is not None
        if subject:
            write_plan(self._log, subject)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        ffi.release(self._log)
        self._memory.close()
        os.close(self.descriptor)
        if self.path:
            Path(self.path).unlink()

    def records(self) -> dict[str, Record]:
        """Return the records that were begun, complete or not, in the order in which they were."""
        begun = []
        for name in self.stages:
            raw = self._log.record[STAGES[name].number]
            if raw.state != lib.RSM_RECORD_NONE:
                begun.append(_decode(name, raw))
        return {record.stage: record for record in sorted(begun, key=lambda record: record.sequence)}

    def trials(self) -> dict[str, StageTrial]:
        """Return what a subject of verify's did at each enabled stage; nothing where there is none."""
        if not self._planned:
            return {}
        return {name: decode_trial(self._log.trial[STAGES[name].number]) for name in self.stages}

    @property
    def program_pid(self) -> int:
        """Return the program's process id, where it was not the tracer that started it; else 0."""
        return int(self._log.program_pid)

    def tallies(self) -> dict[str, Tally]:
        """Return what was fired, attempted and committed at each enabled stage."""
        result = {}
        for name in self.stages:
            number = STAGES[name].number
            slot = self._log.stage[number]
            result[name] = Tally(slot.firings, slot.attempted, int(lib.rsm_native_sum(self._log, number, CPUS)))
        return result
