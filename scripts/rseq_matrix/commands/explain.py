"""`rseq-matrix explain`."""

from __future__ import annotations

import errno
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from rseq_matrix.commands.output import STANDARD_OUTPUT, check_outputs, emit, report_console
from rseq_matrix.documents.explain import Explanation, Explanations
from rseq_matrix.documents.plain import to_json
from rseq_matrix.errors import EXIT_AS_EXPECTED, EXIT_DIFFERENT, InputError, MissingError, UsageError
from rseq_matrix.explain.causes import REGISTERED, CallFacts
from rseq_matrix.explain.explanation import explain_facts, explain_text, together
from rseq_matrix.explain.strace import FLAGS
from rseq_matrix.kernels.features import SIGNATURE, Host, here
from rseq_matrix.kernels.sequences import plain_name
from rseq_matrix.report.explain import show_explanation

SIGNALS = ("SIGSEGV", "SIGSYS")
SUCCESSES = ("0", "success")
NAMES = {**FLAGS, "RSEQ_SIG": SIGNATURE, "NULL": 0}
INPUT_LIMIT = 16 << 20
NUMBERED = re.compile(r"-?[0-9]{1,9}")
"""An errno as a number, or as the kernel returns it."""
LIMITS = {
    "address": 64,
    "length": 32,
    "flags": 32,
    "signature": 32,
    "registered_length": 32,
    "registered_signature": 32,
}


class NumberOption(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in click's newer stubs
    """A number as C and strace write it, decimal or after 0x."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it; what C has names for may be called by them, and flags be joined with |."""
        found = 0
        try:
            for part in str(value).split("|"):
                found |= NAMES[part] if part in NAMES else int(part, 0)
        except ValueError:
            self.fail(f"'{value}' is no number", param, ctx)
        return found


NUMBER = NumberOption()


@dataclass(frozen=True)
class Given:
    """The options that describe a call."""

    address: int | None
    align: int | None
    length: int | None
    flags: int | None
    signature: int | None
    registered: str | None
    registered_length: int | None
    registered_signature: int | None

    @property
    def names(self) -> list[str]:
        """Return the options that were given."""
        found = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return [f"--{name.replace('_', '-')}" for name in found]

    def facts(self, answer: str) -> CallFacts:
        """Return them as what is known. A call that is described and has no flags registers."""
        for name, bits in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1 << bits:
                raise UsageError(f"--{name.replace('_', '-')} is a number of {bits} bits, and {value} is none")
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.names and self.flags is None:
            known["flags"] = 0
        facts = CallFacts(answer, **known)
        facts.check()
        return facts


def _answer(word: str) -> str | None:
    """Return what a word that looks like an answer of rseq(2) calls; None if it does not look so."""
    word = word.strip()
    name = word.upper()
    if word in SUCCESSES:
        return "0"
    if NUMBERED.fullmatch(word):
        name = errno.errorcode.get(abs(int(word)), word)
    looks = name in SIGNALS or (name.startswith("E") and name.isalnum())
    return name if looks else None


def _answers(words: tuple[str, ...]) -> list[str]:
    """Return the answers that are to be explained; none if the words are a line or a message."""
    names = [_answer(word) for word in words]
    found = [name for name in names if name is not None]
    if len(found) < len(names):
        return []
    for name, word in zip(found, words, strict=True):
        if name not in ("0", *SIGNALS) and not hasattr(errno, name):
            raise UsageError(
                f"'{word}' is the name of no errno: rseq(2) has EINVAL, EBUSY, EPERM, EFAULT, ENOSYS, 0 for success"
            )
    return [plain_name(name) if name.startswith("E") else name for name in found]


def _read(words: tuple[str, ...]) -> str:
    if words != ("-",):
        return " ".join(words)
    if sys.stdin is None:  # the caller closed it
        raise InputError("standard input is closed: there is nothing to read")
    try:
        text = sys.stdin.buffer.read(INPUT_LIMIT + 1)
    except OSError as error:
        raise InputError(f"standard input cannot be read: {error.strerror}") from error
    if len(text) > INPUT_LIMIT:
        raise InputError(f"standard input has more than {INPUT_LIMIT >> 20} MiB: cut out the lines about rseq")
    return text.decode(errors="replace")


def _explain(words: tuple[str, ...], given: Given, host: Host) -> Explanation | Explanations:
    if not words:
        raise UsageError("say what to explain: an ERRNO, a line of 'strace -e trace=rseq', a message, or - for lines")
    answers = _answers(words)
    if answers:
        return together([explain_facts(given.facts(answer), host) for answer in answers])
    if given.names:
        raise UsageError(
            f"{given.names[0]} describes the call of an ERRNO: a line of strace or a message says it itself"
        )
    return explain_text(_read(words), host)


def _finish(document: Explanation | Explanations, host: Host) -> None:
    sys.stdout.flush()
    if document.agrees is False:
        sys.exit(EXIT_DIFFERENT)
    if host.player is None:
        raise MissingError(f"the explanation was not checked: {host.problem}")
    sys.exit(EXIT_AS_EXPECTED)


@click.command()
@click.argument("words", nargs=-1, metavar="ERRNO...|LINE|MESSAGE|-")
@click.option("--length", type=NUMBER, metavar="N", help="The length of the area in the call.")
@click.option("--address", type=NUMBER, metavar="N", help="The address of the area in the call, like 0x….")
@click.option(
    "--align",
    type=NUMBER,
    metavar="N",
    help="The power of two that the address is a multiple of, if the address is not known.",
)
@click.option("--flags", type=NUMBER, metavar="N", help="The flags; 1 unregisters.  [default: 0 if anything is given]")
@click.option("--signature", type=NUMBER, metavar="N", help="The signature in the call.")
@click.option(
    "--registered",
    type=click.Choice(REGISTERED),
    help="What was registered before: the same address, another, none.  [default: not known]",
)
@click.option("--registered-length", type=NUMBER, metavar="N", help="The length of what was registered.")
@click.option("--registered-signature", type=NUMBER, metavar="N", help="The signature of what was registered.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write JSON to PATH; '-' is standard output."
)
def explain(words: tuple[str, ...], json_path: Path | None, **options: Any) -> None:
    """Explain what rseq(2) answered, and check the explanation by making the same call in a child process.

    ERRNO is the answer: EINVAL or another errno, 0 for success, SIGSEGV or SIGSYS where the call killed the process.
    Several are explained one after the other; the options describe the call. LINE is a line of the output of 'strace -f
    -e trace=rseq'; '-' reads such lines from standard input: the last call that failed is explained, and the earlier
    ones tell what was registered. MESSAGE is what a program printed, like 'Fatal glibc error: rseq registration
    failed'.

    Exit status: 0 explained, and the child got the same answer; 1 it got another; 4 the line cannot be read.
    """
    given = Given(**options)
    check_outputs([json_path])
    host = here()
    document = _explain(words, given, host)
    if json_path:
        emit(json_path, to_json(document))
    if json_path != STANDARD_OUTPUT:
        show_explanation(report_console(), document)
    _finish(document, host)
