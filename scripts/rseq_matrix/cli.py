"""The command line. The only place that catches errors and chooses how the program ends."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from rseq_matrix import __version__
from rseq_matrix.errors import (
    EXIT_AS_EXPECTED,
    EXIT_DIFFERENT,
    InterruptedRunError,
    RseqMatrixError,
    UsageError,
)
from rseq_matrix.signals import undisturbed

THREADS = "OPENBLAS_NUM_THREADS"
STOPPING = (signal.SIGTERM, signal.SIGHUP)
COMMANDS = {
    "run": "Run the cells of the matrix: at which stages can rseq be used, and why?",
    "verify": "Check that a library's per-CPU operations take effect exactly once, with rseq and without.",
    "inspect": "Inspect ELF files: can they be used with rseq in early and late code?",
    "doctor": "Tell whether rseq works on this host, in a process or in a program, what is wrong, and what to do.",
    "libcs": "List the libcs: which are cached, and what each does about rseq.",
    "exec": "Run a program on another libc or in another environment, and exit with its status.",
    "simulate": "Print the life of a process under a design of how libc integrates rseq, or compare two.",
    "diff": "Show what differs between two documents of run --json.",
    "explain": "Explain what rseq(2) answered: an errno, a line of strace, or a message of glibc's.",
    "stages": "List the stages: when each comes, what runs it, what may be used there.",
}
"""The commands in the order of the help, with their first sentences. Each lives in a module of its own name."""


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let numpy's linear algebra start no threads: nobody needs them, and here may be a filter that kills for one."""
    if THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[THREADS]


class Commands(click.Group):
    """Imports a command's module when that command is called: what one needs does not slow down another."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, None where there is no such."""
        if cmd_name not in COMMANDS:
            return None
        with undisturbed(), _one_thread():  # an extension module that is interrupted while it starts aborts the process
            module = importlib.import_module(f"rseq_matrix.commands.{cmd_name}")
        found: click.Command = getattr(module, cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rseq-matrix")
def command() -> None:
    """Where are restartable sequences usable? Every early and late place in a process's life, on this glibc and kernel.

    Exit status: 0 all as expected; 1 something differs; 2 usage; 3 a tool or feature is missing; 4 bad input file;
    5 interrupted.
    """


def _end(code: int, message: str = "") -> NoReturn:
    """End with a status and a sentence, which may hold names that others chose."""
    for number in (signal.SIGINT, *STOPPING):
        signal.signal(number, signal.SIG_IGN)  # the status is decided
    if message:
        with contextlib.suppress(OSError):  # where nobody can be told, the status still tells
            harmless = "".join(letter if letter.isprintable() else "?" for letter in message)
            print(f"rseq-matrix: {harmless}", file=sys.stderr, flush=True)
    sys.exit(code)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _silence() -> None:
    """Let nothing more be written to standard output: nobody reads it, or it is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _prepare() -> None:
    """Make up for what the caller left closed or ignored."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as a caller may have left it, no child could be waited for
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)


def main() -> NoReturn:
    """Run the command line and turn every error into one sentence and its exit code."""
    _prepare()
    try:
        command.main(prog_name="rseq-matrix", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as end:
        _end(int(end.code or 0))
    except RseqMatrixError as error:
        _end(error.exit_code, str(error))
    except click.ClickException as error:
        _end(UsageError.exit_code, error.format_message())
    except (KeyboardInterrupt, click.Abort):
        _end(InterruptedRunError.exit_code, "interrupted before anything was finished")
    except BrokenPipeError:
        _silence()
        _end(EXIT_DIFFERENT)
    except OSError as error:
        _silence()
        where = f" ({error.filename})" if error.filename else ""
        _end(UsageError.exit_code, f"cannot write or use a file: {error.strerror or error}{where}")
    _end(EXIT_AS_EXPECTED)
