"""The one error tree. A class has one exit code; cli.main() is the one place that catches."""

from __future__ import annotations

import subprocess

EXIT_AS_EXPECTED = 0
EXIT_DIFFERENT = 1


class RseqMatrixError(Exception):
    """An error that is reported in one sentence. The message is that sentence."""

    exit_code = EXIT_DIFFERENT


def in_words(error: OSError | subprocess.TimeoutExpired) -> str:
    """Say in words why a program could not be run to its end."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it did not end within {error.timeout:g} seconds"
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


class UsageError(RseqMatrixError):
    """The command line asks for something that does not exist or cannot be."""

    exit_code = 2


class MissingError(RseqMatrixError):
    """A tool or a feature of this machine is missing. The message names the package to install."""

    exit_code = 3


class InputError(RseqMatrixError):
    """A file that was given cannot be used."""

    exit_code = 4


class UnsuitableError(InputError):
    """A file that is whole, but not of the kind that was asked for. In a directory, it is passed over."""


class InterruptedRunError(RseqMatrixError):
    """The person stopped the run. What was finished has been kept."""

    exit_code = 5
