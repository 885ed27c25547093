"""Fresh clones of the work tree, for tests of what a user has to do first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

UNREACHABLE = ("Temporary failure", "Could not find a version", "No matching distribution", "Connection", "Retry")


def tracked() -> set[str]:
    """Return the paths, relative to the root, of the files that git tracks or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


def checkout(target: Path) -> Path:
    """Copy what git tracks or would track: a fresh clone of the work tree."""
    for name in tracked():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target


def fresh(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return an environment with no virtual environment, no cache and nothing of this project in it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RSEQ_MATRIX")}
    python = Path(sys.base_prefix) / "bin" / "python3"
    path = os.environ["PATH"].split(":")
    environment["PATH"] = ":".join(entry for entry in path if not entry.startswith(sys.prefix))
    return {**environment, "PYTHON": str(python), "XDG_CACHE_HOME": str(tmp_path / "cache"), **more}


def need_index(done: subprocess.CompletedProcess[str]) -> None:
    """Skip the test if the command failed for want of a package index."""
    said = done.stdout + done.stderr
    if done.returncode != 0 and any(word in said for word in UNREACHABLE):
        pytest.skip(f"the package index cannot be reached: {said.strip().splitlines()[-1][:200]}")


def run(command: list[str], environment: dict[str, str], where: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder `where`, for at most half an hour: then it hangs."""
    return subprocess.run(
        command, env=environment, cwd=where, capture_output=True, text=True, timeout=1800, check=False
    )
