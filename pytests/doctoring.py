"""What the tests of the doctor share: an examination and what it named, and processes to be examined."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema

from conftest import ROOT, run_command
from rseq_matrix.documents.doctor import (
    GLIBC,
    HOST,
    LEGACY,
    PRESENT,
    EventOutcomes,
    Examined,
    ExaminedLibc,
    ExaminedThread,
    KernelBehaviour,
    LengthBehaviour,
    MembarrierBehaviour,
    SliceExtensions,
    TunableSetting,
)

SCHEMA = json.loads((ROOT / "scripts/rseq_matrix/schema/doctor-1.json").read_text(encoding="utf-8"))
OFF = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
RSEQ, PTRACE = "334", "101"

Document = dict[str, Any]


def doctor(*arguments: str, **options: Any) -> Document:
    """Return the document of an examination, whose exit status says whether all is well."""
    environment = os.environ | options.pop("environment", {})
    done = run_command("doctor", "--json", "-", *arguments, env=environment, **options)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1), (done.returncode, done.stderr)
    document: Document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert done.returncode == (0 if document["verdict"]["healthy"] else 1)
    return document


def named(document: Document) -> set[str]:
    return {found["id"] for found in document["findings"]}


@contextmanager
def waiting(command: Sequence[str], ready: bool = True, environment: dict[str, str] | None = None) -> Iterator[int]:
    """Run a program and yield its process when it says that it is ready."""
    variables = os.environ | (environment or {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout is not None
        if ready:
            assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid
        finally:
            process.kill()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


REWRITTEN = EventOutcomes("rewritten", "rewritten", "rewritten")
THREAD = ExaminedThread("main", owner=GLIBC, length=32, cpu_id=1, cpu_id_start=1, believed=True)
LIBC = ExaminedLibc(size=20, offset=2336, flags=0, tunable=TunableSetting(None, None, None))
KERNEL = KernelBehaviour(
    release="6.6",
    machine="x86_64",
    rseq=PRESENT,
    refused_after_start=False,
    feature_size=28,
    align=32,
    class_=LEGACY,
    registrations=(LengthBehaviour(32, 0, 22, True, REWRITTEN, None, 0, -22, 95, LEGACY),),
    membarrier=MembarrierBehaviour(offered=True, answer=0, aborts=True),
    slice_extension=SliceExtensions(known=False, lengths=()),
)


def healthy_facts(**changes: Any) -> Examined:
    """Return what a host without a defect shows, with changes."""
    return replace(Examined(kind=HOST, kernel=KERNEL, libc=LIBC, threads=(THREAD,)), **changes)
