"""Compiles the subjects that the tests judge."""

from __future__ import annotations

import subprocess
from pathlib import Path

from conftest import ROOT

HERE = Path(__file__).resolve().parent
GOOD, BROKEN = HERE / "subjects", HERE / "broken"


def compile_subject(source: Path, directory: Path, *flags: str) -> Path:
    """Compile a subject as docs/commands/verify.md tells a user to; return the shared object."""
    target = directory / f"{source.stem}.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc'}", "-o", str(target)]
    subprocess.run([*command, str(source), *flags], check=True)
    return target
