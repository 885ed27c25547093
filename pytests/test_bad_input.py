"""Bad input, a missing tool, a hostile machine: one sentence, its exit code, no traceback."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import COMMAND, Command, not_passed

RSEQ, PTRACE, PRCTL = 334, 101, 157
ENOSYS, EPERM, EINVAL = 38, 1, 22


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nosuch.*"], 2, "no cell matches 'nosuch.*'"),
        (["run", "host/*/dynamic-now/default"], 2, "no cell matches"),
        (["run", "ifunc.*", "host/*/*/*/nosuch"], 2, "no cell matches 'host/*/*/*/nosuch'"),
        (["run", "--link", "wobbly"], 2, "unknown link 'wobbly': known are dynamic-lazy"),
        (["run", "--environment", "moon"], 2, "unknown environment 'moon': known are default"),
        (["run", "--libc", "glibc"], 2, "unknown libc 'glibc': it is system, all, glibc-2.31"),
        (["run", "--libc", "/nonexistent"], 4, "no libc in /nonexistent: there is no such directory"),
        (["libcs", "wobbly"], 2, "unknown libc 'wobbly'"),
        (["exec", "--libc", "all", "--", "true"], 2, "--libc all is for run"),
        (["exec", "--environment", "moon", "--", "true"], 2, "unknown environment 'moon': known are default"),
        (["exec", "--", "nosuchprogram"], 4, "no program 'nosuchprogram' is on the PATH"),
        (["exec"], 2, "PROGRAM"),
        (["run", "--link", "static", "audit.*"], 2, "no cell matches"),
        (["run", "--json", "/nonexistent/out.json"], 2, "does not exist"),
        (["run", "--junit", "/"], 2, "is a directory"),
        (["run", "--jobs", "0"], 2, "--jobs"),
        (["run", "--json", "-", "--tap"], 2, "standard output"),
        (["run", "--time-limit", "never"], 2, "--time-limit"),
        (["run", "--time-limit", "1e9"], 2, "--time-limit"),
        (["run", "--time-limit", "nan"], 2, "'--time-limit': nan is not a number of seconds"),
        (["verify", "--seconds", "nan"], 2, "'--seconds': nan is not a number of seconds"),
        (["run", ""], 2, "no cell matches ''"),
        (["nosuch"], 2, "nosuch"),
        (["stages", "--json", "/nonexistent/out.json"], 2, "/nonexistent"),
    ],
)
def test_one_sentence(arguments: list[str], code: int, words: str, command: Command) -> None:
    done = command(*arguments)
    assert done.returncode == code
    assert words in sentence(done)


def test_unwritable_directory(command: Command, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        tmp_path = Path("/proc")  # root writes everywhere else
    else:
        tmp_path.chmod(0o500)
    done = command("run", "executable.main", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 2
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def without_compiler(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_no_compiler(command: Command, tmp_path: Path) -> None:
    environment = {key: value for key, value in without_compiler(tmp_path).items() if key != "CC"}
    done = command("run", env=environment)
    assert done.returncode == 3
    said = sentence(done)
    assert "Debian: apt install gcc libc6-dev" in said
    assert "Fedora: dnf install gcc" in said
    assert "Alpine: apk add gcc" in said


def compiler(tmp_path: Path, script: str) -> dict[str, str]:
    path = tmp_path / "badcc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "CC": str(path), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_a_compiler_that_fails_on_one_file_costs_its_cells(command: Command, tmp_path: Path) -> None:
    script = 'case "$*" in *quick_exit.c*) echo "badcc: no" >&2; exit 1;; esac; exec cc "$@"'
    path = tmp_path / "out.json"
    done = command("run", "--json", str(path), env=compiler(tmp_path, script))
    assert done.returncode == 1
    document = json.loads(path.read_text())
    assert {name.split("/")[1] for name in not_passed(document)} == {"executable.quick_exit"}
    reasons = {cell["reason"] for cell in document["cells"] if cell["reason"]}
    assert all("could not be built:" in reason and "quick_exit.c (badcc: no)" in reason for reason in reasons)
    # The failure is not remembered: with a compiler that works the cells are there.
    assert command("run", "executable.quick_exit", env=compiler(tmp_path, 'exec cc "$@"')).returncode == 0


def test_a_compiler_that_always_fails_costs_all_cells(command: Command, tmp_path: Path) -> None:
    done = command("run", env=compiler(tmp_path, "exit 1"))
    assert done.returncode == 1
    assert "could not be built" in done.stdout
    assert "badcc" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_missing_header_names_the_package(command: Command, tmp_path: Path) -> None:
    script = 'for a; do case $a in -c) exec cc -nostdinc "$@";; esac; done; exec cc "$@"'
    done = command("run", env=compiler(tmp_path, script))
    assert done.returncode == 3
    assert "is missing; install it (Debian: apt install gcc libc6-dev" in sentence(done)


@pytest.mark.libc_a
def test_a_missing_static_libc_is_unsupported_with_the_package(command: Command, tmp_path: Path) -> None:
    script = 'case "$*" in *-print-file-name=libc.a*) echo libc.a; exit;; esac; exec cc "$@"'
    path = tmp_path / "out.json"
    done = command("run", "--json", str(path), env=compiler(tmp_path, script))
    document = json.loads(path.read_text())
    assert done.returncode == 0
    red = not_passed(document)
    assert set(red.values()) == {"UNSUPPORTED"}
    assert {name.split("/")[0] for name in red} == {"static", "static-pie"}
    assert "dnf install glibc-static" in done.stdout
    assert command("run", "--link", "static", env=compiler(tmp_path, script)).returncode == 3


def test_an_unusable_cache(command: Command, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a directory")
    done = command("run", env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert done.returncode == 3
    assert "cannot build in the cache directory" in sentence(done)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_change_nothing(closed: str) -> None:
    shell = " ".join([*COMMAND, "run", "executable.*", closed])
    assert subprocess.run(["sh", "-c", shell], capture_output=True, check=False).returncode == 0


def test_ignored_signals_change_nothing() -> None:
    """A caller may leave every signal ignored, SIGCHLD too."""
    program = (
        "import os, signal, sys\n"
        "for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'rseq_matrix', 'run'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_low_limit_on_open_files() -> None:
    shell = " ".join(["ulimit -n 64;", *COMMAND, "run"])
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "may open only 64 files here" in sentence(done)


def test_another_machine() -> None:
    program = (
        "import platform, sys; platform.machine = lambda: 'aarch64'\n"
        "from rseq_matrix import cli; sys.argv = ['rseq-matrix', 'run']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "this machine is aarch64" in sentence(done)


def test_a_kernel_without_rseq(command: Command, deny: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    done = command("run", "--json", str(path), wrapper=[deny, str(RSEQ), str(ENOSYS)])
    assert done.returncode == 0, done.stdout
    assert "rseq(2) is answered with ENOSYS here" in done.stdout
    document = json.loads(path.read_text())
    assert not_passed(document) == {}
    classes = {cell["observed"]["class"] for cell in document["cells"]}
    assert classes <= {"unregistered", "blind"}
    blind = {cell["stage"] for cell in document["cells"] if cell["observed"]["class"] == "blind"}
    assert blind <= {"ifunc.executable", "ifunc.after_exec", "signal.ifunc_resolver"}
    because = {cell["expected"]["because"] for cell in document["cells"] if cell["stage"] not in blind}
    assert because == {"this kernel has no rseq(2)"}


def test_a_kernel_without_pr_get_auxv(command: Command, deny: Path) -> None:
    """Before Linux 6.4 the auxiliary vector is read from /proc, also by a thread that outlives the main thread."""
    done = command("run", wrapper=[deny, str(PRCTL), str(EINVAL)])
    assert done.returncode == 0, done.stdout


def test_forbidden_ptrace_is_said_and_the_run_goes_on(command: Command, deny: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    done = command("run", "--json", str(path), wrapper=[deny, str(PTRACE), str(EPERM)])
    assert done.returncode == 0, done.stdout
    assert "ptrace is not permitted here (EPERM" in done.stdout
    document = json.loads(path.read_text())
    assert not_passed(document) == {}
    assert all(cell["observed"]["oracle"] is None for cell in document["cells"])
    assert any("ptrace is not permitted" in note for note in document["notes"])


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    shell = " ".join([*COMMAND, "stages", "|", "head", "-n", "1"])
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
