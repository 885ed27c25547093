"""The two commands, as a person who has nothing yet would meet them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clones import checkout, fresh, need_index, run
from conftest import ROOT


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
