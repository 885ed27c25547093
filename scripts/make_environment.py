"""Makes the virtual environment that scripts/rseq-matrix and scripts/test run in. Standard library only.

Usage: make_environment.py DIRECTORY run|test
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXIT_MISSING = 3

PACKAGES = {
    "a C compiler": ("gcc libc6-dev", "gcc glibc-devel", "gcc musl-dev"),
    "the C library's headers": ("libc6-dev", "glibc-devel", "musl-dev"),
    "Python's headers (Python.h)": ("python3-dev", "python3-devel", "python3-dev"),
    "Python's venv and pip": ("python3-venv", "python3-pip", "py3-pip"),
}

PIPS_FRAME = ("subprocess-exited-with-error", "-failed", "prepare_metadata_for_build")
"""What pip and its hooks say around an error of any kind; the cause is in the other lines."""


def give_up(sentence: str) -> None:
    """End with one sentence."""
    print(f"rseq-matrix: {sentence}", file=sys.stderr)
    sys.exit(EXIT_MISSING)


def missing(what: str) -> None:
    """End with the sentence that names the package to install."""
    debian, fedora, alpine = PACKAGES[what]
    give_up(
        f"{what} cannot be found (to install: Debian: apt install {debian}; Fedora: dnf install {fedora}; "
        f"Alpine: apk add {alpine})"
    )


def compiler() -> list[str]:
    """Return the C compiler's command."""
    for command in (os.environ.get("CC", "").split(), ["cc"], ["gcc"]):
        if command and shutil.which(command[0]):
            return command
    missing("a C compiler")
    return []


def check_machine() -> None:
    """Say what is missing before anything is installed."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        give_up(f"the probes are written for Linux on x86-64, and this is {platform.system()} on {platform.machine()}")
    cc = compiler()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "headers.c"
        source.write_text("#include <stdio.h>\n#include <elf.h>\nint main(void) { return 0; }\n")
        done = subprocess.run([*cc, "-E", "-o", os.devnull, source], capture_output=True, text=True, check=False)
        if done.returncode != 0 and "No such file" in done.stderr:
            missing("the C library's headers")
        if done.returncode != 0:
            give_up(f"the C compiler '{' '.join(cc)}' does not work: {' '.join(done.stderr.split())[:200]}")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        missing("Python's headers (Python.h)")


def cause(output: str) -> str:
    """Return what the failed pip said of the cause: pip's own errors, a compiler's, the message of an exception."""
    told = [" ".join(line.split()) for line in output.splitlines() if re.search("error: .", line, re.IGNORECASE)]
    told = [line for line in told if not any(words in line for words in PIPS_FRAME)]
    return "; ".join(dict.fromkeys(told))[:400] or " ".join(output.split())[-400:]


def make(directory: Path, purpose: str) -> None:
    """Make or renew the environment. What is not finished has no mark and is made again."""
    python = str(directory / "bin" / "python")
    if (
        not Path(python).exists()
        or subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode
    ):
        done = subprocess.run([sys.executable, "-m", "venv", "--clear", directory], capture_output=True, check=False)
        if done.returncode != 0:
            missing("Python's venv and pip")
    what = f"{ROOT}[test]" if purpose == "test" else str(ROOT)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", what]
    done_pip = subprocess.run(command, capture_output=True, text=True, check=False)
    if done_pip.returncode != 0:
        give_up(f"the Python packages cannot be installed into {directory}: {cause(done_pip.stderr)}")
    for mark in {"run", purpose}:
        (directory / f"ready-{mark}").touch()


def main() -> None:
    """Check, then make, one at a time."""
    directory, purpose = Path(sys.argv[1]), sys.argv[2]
    check_machine()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory.parent / f".{directory.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            print(f"setting up {directory} (once)", file=sys.stderr)
            make(directory, purpose)
    except OSError as error:
        give_up(f"the environment {directory} cannot be made: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(5)


if __name__ == "__main__":
    main()
