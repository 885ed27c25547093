"""The two commands and the wheel, as a person who has nothing yet would meet them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

UNREACHABLE = ("Temporary failure", "Could not find a version", "No matching distribution", "Connection", "Retry")


def checkout(target: Path) -> Path:
    """Copy what git tracks or would track: a fresh clone of the work tree."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
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
    if done.returncode != 0 and any(word in done.stderr for word in UNREACHABLE):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1][:200]}")


def run(command: list[str], environment: dict[str, str], where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, cwd=where, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.network
def test_the_first_command_in_a_fresh_clone_with_a_space_in_its_path(tmp_path: Path) -> None:
    tree = checkout(tmp_path / "a clone")
    environment = fresh(tmp_path / "with space")
    done = run(["scripts/rseq-matrix", "run"], environment, tree)
    need_index(done)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " PASS, in " in done.stdout
    again = run([str(tree / "scripts" / "rseq-matrix"), "run", "executable.main"], environment, Path("/"))
    assert again.returncode == 0, again.stderr
    assert "setting up" not in again.stderr


@pytest.mark.network
def test_an_installed_wheel_runs_outside_a_checkout(tmp_path: Path) -> None:
    tree = checkout(tmp_path / "tree")
    environment = fresh(tmp_path)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    done = run(build, environment, tree)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("rseq_matrix-*.whl")
    shutil.rmtree(tree)
    assert run([environment["PYTHON"], "-m", "venv", str(tmp_path / "env")], environment, tmp_path).returncode == 0
    installed = run([str(tmp_path / "env/bin/pip"), "install", "--quiet", str(wheel)], environment, tmp_path)
    need_index(installed)
    assert installed.returncode == 0, installed.stderr
    done = run([str(tmp_path / "env/bin/rseq-matrix"), "run", "--json", "out.json"], environment, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out.json").exists()


@pytest.mark.parametrize("script", ["rseq-matrix", "test"])
def test_without_a_compiler_the_commands_name_the_package(script: str, tmp_path: Path) -> None:
    tree = checkout(tmp_path / "tree")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("dirname", "find", "head", "sh"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    environment = {**fresh(tmp_path), "PATH": str(tools)}
    environment.pop("CC", None)
    done = run([f"scripts/{script}"], environment, tree)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    for words in ("Debian: apt install gcc libc6-dev", "Fedora: dnf install gcc", "Alpine: apk add gcc"):
        assert words in done.stderr


def test_without_python_the_command_names_the_package(tmp_path: Path) -> None:
    tree = checkout(tmp_path / "tree")
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("dirname", "find", "head", "sh"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    environment = {**fresh(tmp_path), "PATH": str(tools), "PYTHON": ""}
    done = run(["scripts/rseq-matrix"], environment, tree)
    assert done.returncode == 3
    assert "Python 3.10 or later" in done.stderr
    assert "Debian: apt install python3" in done.stderr


def test_continuous_integration_types_what_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text()
    script = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert script[-1] == "RSEQ_MATRIX_REQUIRE_ALL=1 scripts/test --all"
    for command in ("scripts/rseq-matrix run", "scripts/test ", "scripts/test --all", "RSEQ_MATRIX_REQUIRE_ALL"):
        assert command in readme
