"""Signal handlers that a file installs itself, and what they reach.

Seen where the handler is a constant in the function that calls signal() or sigaction(): as the second argument of the
one, or stored by the function (struct sigaction on the stack), or the first word of a structure of data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from rseq_matrix.elf.calls import calls_of
from rseq_matrix.elf.code import Reach
from rseq_matrix.elf.facts import Handler
from rseq_matrix.elf.flow import ProgramCode
from rseq_matrix.elf.functions import Function
from rseq_matrix.elf.machines.execution import CodeStep, Flow, Value
from rseq_matrix.elf.touches import Touches, only

DIRECT = frozenset({"signal", "bsd_signal", "sysv_signal", "__sysv_signal", "ssignal", "sigset"})
BY_STRUCTURE = frozenset({"sigaction", "__sigaction", "__libc_sigaction"})
# They prepare the structure, while the handler's address may still be in a register.
WITHOUT_CALLBACK = frozenset({"sigemptyset", "sigfillset", "sigaddset", "sigdelset", "memset"})
INSTALLERS = DIRECT | BY_STRUCTURE
HANDLERS = 200
REACH = Reach(before=60, behind=1)


def handlers(program: ProgramCode, touches: Touches) -> tuple[Handler, ...]:
    """Return the handlers that the code shows, with what of TLS they and their callees reach."""
    found: dict[int, _Installed] = {}
    for function in calls_of(program, INSTALLERS, REACH).pieces:
        for installed in _installed(program, function):
            if installed.certain or installed.handler not in found:
                found[installed.handler] = installed
    result = []
    for address, installed in sorted(found.items())[:HANDLERS]:
        code = touches.of(address)
        kept = only(code.touches, "tls-get-addr")
        code = replace(code, touches=kept)
        result.append(Handler(code, installed.at, installed.certain))
    return tuple(result)


class _Installed(NamedTuple):
    """A call that installs a handler. Not `certain`: a function whose address was formed before the call."""

    handler: int
    at: int
    certain: bool


def _installed(program: ProgramCode, piece: Function) -> Iterator[_Installed]:
    """Yield each installation in a piece of code."""
    seen: dict[int, None] = {}  # the functions whose address the code has formed, in order
    for step, registers in program.walk(piece):
        for value in list(registers.values()):
            seen.update(dict.fromkeys(_code(program, value)))
        if step.flow not in (Flow.CALL, Flow.JUMP):  # a jump to another function is its tail call
            continue
        name = program.destination(step).symbol
        if name in INSTALLERS:
            read = _code if name in DIRECT else _first_word
            known = read(program, _argument(step, 1))
            yield from (_Installed(address, step.address, bool(known)) for address in known or list(seen))
            if name in BY_STRUCTURE:
                seen.clear()
        elif name not in WITHOUT_CALLBACK:  # what another function is given is its callback
            for argument in step.arguments:
                for address in _code(program, argument):
                    seen.pop(address, None)


def _argument(step: CodeStep, place: int) -> Value | None:
    return step.arguments[place] if place < len(step.arguments) else None


def _code(program: ProgramCode, value: Value | None) -> list[int]:
    """Return the function that a value is the address of, if it is one."""
    address = program.resolve(value)
    if address is None:
        return []
    return [program.entry(address)] if program.is_function(address) else []


def _first_word(program: ProgramCode, structure: Value | None) -> list[int]:
    address = program.resolve(structure)
    word = program.memory.value(address) if address is not None else None
    return _code(program, Value(word)) if word is not None else []
