"""What the tests of the doctor share: an examination and what it named, and processes to be examined."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema

from conftest import ROOT, run_command

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
