"""One interruption of one operation at one instruction: how it is brought about, and what proves that it happened.

A stop for the tracer aborts the critical section that it happens in, so a section is not interrupted by stopping in it.
Its instruction is replaced by a jump to itself while the operator is elsewhere, and the operator spins there, inside of
the armed section, until it is interrupted by what is to be tried. What proves it:

- signal: the stop before its delivery shows the instruction, and the frame that the handler gets shows the abort
  handler's address, because the kernel aborts before it builds the frame (kernel/rseq.c, rseq_signal_deliver());
- the others: a breakpoint at the abort handler, which the operator comes to after the event and not before.

Outside of sections a breakpoint is enough.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix._native import lib
from rseq_matrix.elf.facts import Section
from rseq_matrix.verify.effects import Books, Effect
from rseq_matrix.verify.subject import Subject
from rseq_matrix.verify.tracee import (
    BREAKPOINT,
    COMMAND_LIMIT,
    HANDLER,
    HELPER,
    INTERRUPTION,
    SPIN,
    UNREGISTERED_HELPER,
    CrashedError,
    StuckError,
    Tracee,
    started,
)

SPINS = 30e-6  # seconds in the armed section, after which the operator spins
HOLD_LIMIT = 0.2
ABORT_LIMIT = 0.1
WAITS = 0.02  # seconds that a helper gets before the operator, for which it may be waiting, goes on
REPEATS = 20

MEMBARRIER_RSEQ, MEMBARRIER_FLAG_CPU = 1 << 7, 1  # linux/membarrier.h

SIGNAL, MIGRATION, PREEMPTION, MEMBARRIER, OTHER_CPU = "signal", "migration", "preemption", "membarrier", "other-cpu"
PREEMPTION_UNREGISTERED, MEMBARRIER_CPU = "preemption-unregistered", "membarrier-cpu"
INSIDE = (SIGNAL, MIGRATION, PREEMPTION, MEMBARRIER, MEMBARRIER_CPU)
OUTSIDE = (SIGNAL, MIGRATION, PREEMPTION, PREEMPTION_UNREGISTERED, OTHER_CPU)
FAMILY = {PREEMPTION_UNREGISTERED: PREEMPTION, MEMBARRIER_CPU: MEMBARRIER}
"""Kinds that reports count as another: the same interruption, brought about in a second way."""
TWO_CPUS = frozenset({MIGRATION, MEMBARRIER, MEMBARRIER_CPU, OTHER_CPU})


@dataclass(frozen=True)
class Place:
    """Where an operation is interrupted."""

    operation: str
    operator: int
    """The role: with a registration or without."""
    section: Section | None
    address: int
    """Of the instruction before which it happens; the file's."""


@dataclass(frozen=True)
class Trial:
    """What came of one interruption."""

    place: Place
    kind: str
    happened: bool
    """It is proven that the interruption happened there."""
    effect: Effect | None = None
    stuck: bool = False
    crash: str = ""

    @property
    def right(self) -> bool:
        """Return whether nothing is wrong with it."""
        return not self.stuck and not self.crash and (self.effect is None or self.effect.right)


class UnsupportedError(Exception):
    """A kind of interruption cannot be brought about here. The message says why."""


class Bench:
    """The process in which trials are made. One that was damaged by a trial is replaced."""

    def __init__(self, subject: Subject, program: Path, cpus: tuple[int, ...]) -> None:
        self.subject = subject
        self.program = program
        self.cpus = cpus
        self.restarts = 0
        self.repeats = 0
        self._context: AbstractContextManager[Tracee] | None = None
        self._tracee: Tracee | None = None

    @property
    def tracee(self) -> Tracee:
        """Return a process with all threads at their gates."""
        if self._tracee is None:
            self._context = started(self.subject, self.program, self.cpus)
            self._tracee = self._context.__enter__()
        return self._tracee

    def close(self) -> None:
        """End the process."""
        if self._context:
            context, self._context, self._tracee = self._context, None, None
            context.__exit__(None, None, None)

    def replace(self) -> None:
        """End the process; the next trial gets another."""
        self.restarts += 1
        self.close()

    # --- trials

    def attempt(self, place: Place, kind: str) -> Trial:
        """Try one interruption. What did not come about as wanted is repeated, unless something was wrong."""
        trial = self._once(place, kind)
        for _ in range(REPEATS):
            if trial.happened or not trial.right:
                break
            self.repeats += 1
            trial = self._once(place, kind)
        return trial

    def _once(self, place: Place, kind: str) -> Trial:
        try:
            interruption = _Interruption(self.tracee, place)
            happened = interruption.go(kind)
            trial = Trial(place, kind, happened, interruption.settle())
        except StuckError:
            trial = Trial(place, kind, True, stuck=True)
        except CrashedError as error:
            trial = Trial(place, kind, True, crash=self.describe(error))
        except UnsupportedError:
            self.replace()
            raise
        if trial.stuck or trial.crash or not (trial.right or place.operation == "add"):
            self.replace()
        return trial

    def describe(self, error: CrashedError) -> str:
        """Return the signal and where it was."""
        tracee = self._tracee
        if not error.address or tracee is None:
            return error.signal
        inside = tracee.is_subject(error.address)
        return (
            f"{error.signal} at {error.address - tracee.bias:#x}" if inside else f"{error.signal} outside of its code"
        )


class _Interruption:
    """One trial."""

    def __init__(self, tracee: Tracee, place: Place) -> None:
        self.tracee = tracee
        self.place = place
        self.operator = place.operator
        self.books = Books(tracee, place.operation)
        self.others: set[int] = set()
        self.address = place.address + tracee.bias

        self.home, self.away = tracee.cpus[0], tracee.cpus[-1]

    @property
    def abort(self) -> int:
        """Return where the section's abort handler is."""
        return (self.place.section.abort if self.place.section else 0) + self.tracee.bias

    def settle(self) -> Effect:
        """Return what took effect."""
        self.tracee.pin(self.operator, self.home)
        return self.books.settle(self.operator, sorted(self.others))

    def go(self, kind: str) -> bool:
        """Return whether it happened."""
        self.books.prepare(self.operator)
        section = self.place.section
        events: dict[str, Callable[[], bool]]
        if section is None:
            events = {
                SIGNAL: self._handle,
                MIGRATION: lambda: self._move(HELPER),
                PREEMPTION: lambda: self._let(HELPER, self.home),
                PREEMPTION_UNREGISTERED: lambda: self._let(UNREGISTERED_HELPER, self.home),
                OTHER_CPU: lambda: self._let(UNREGISTERED_HELPER, self.away),
            }
            return self._reach() and events[kind]()
        events = {
            SIGNAL: self._signal,
            MIGRATION: self._migrate,
            PREEMPTION: self._preempt,
            MEMBARRIER: lambda: self._membarrier(0),
            MEMBARRIER_CPU: lambda: self._membarrier(MEMBARRIER_FLAG_CPU),
        }
        return self._hold(section, trap=kind != SIGNAL) and events[kind]()

    # --- outside of sections

    def _reach(self) -> bool:
        """Let the operation run up to the instruction. Return False where it ended without coming there."""
        tracee = self.tracee
        tracee.patch(self.address, BREAKPOINT)
        tracee.begin(self.operator, *self.books.command(self.operator))
        stop = tracee.wait(self.operator, COMMAND_LIMIT)
        if stop is None:
            raise StuckError(self.operator)
        if stop.kind == "trap":
            tracee.leave_trap(self.operator)
        tracee.restore_all()
        return stop.kind == "trap"

    def _handle(self) -> bool:
        """Let the signal handler interrupt the operator, which stands still, and do an operation."""
        tracee = self.tracee
        tracee.order(HANDLER, *self.books.command(HANDLER))
        self.others.add(HANDLER)
        tracee.mailbox.interrupted_at = 0
        tracee.go_on(self.operator, INTERRUPTION)
        tracee.finish(self.operator)
        return bool(tracee.mailbox.interrupted_at == (self.abort if self.place.section else self.address))

    def _move(self, helper: int) -> bool:
        """Move the operator to the other CPU and let somebody work on the CPU that it was on."""
        self.books.moved = True
        self.tracee.pin(self.operator, self.away)
        return self._let(helper, self.home)

    def _let(self, helper: int, cpu: int) -> bool:
        """Let somebody do an operation while the operator stands still, and the operator go on then.

        Who waits for the operator (for a lock) gets what it waits for.
        """
        tracee = self.tracee
        tracee.pin(helper, cpu)
        tracee.begin(helper, *self.books.command(helper))
        self.others.add(helper)
        tracee.wait(helper, WAITS)
        tracee.go_on(self.operator)
        tracee.finish(self.operator)
        tracee.finish(helper)
        tracee.pin(helper, self.away)
        return True

    # --- holding it in a section

    def _hold(self, section: Section, trap: bool) -> bool:
        """Let the operation run until it spins at the instruction. Return False where it ended without."""
        tracee = self.tracee
        tracee.patch(self.address, SPIN)
        if trap:
            tracee.patch(self.abort, BREAKPOINT)
        tracee.begin(self.operator, *self.books.command(self.operator))
        end = time.monotonic() + HOLD_LIMIT
        since = 0.0
        while (now := time.monotonic()) < end:
            tracee.poll()
            stop = tracee.stops.get(self.operator)
            if stop and stop.kind == "gate":
                tracee.restore_all()
                return False
            if stop:  # aborted by something else
                self._go_on_from_abort(keep=True)
                since = 0.0
            elif tracee.is_armed(self.operator, section):
                since = since or now
                if now - since >= SPINS:
                    return True
            else:
                since = 0.0
        self._release()
        return False

    def _release(self) -> None:
        """Stop the operator, put everything back and let the operation end."""
        tracee = self.tracee
        if self.operator not in tracee.stops:
            tracee.halt(self.operator)
        stop = tracee.stops[self.operator]
        if stop.kind == "trap":
            tracee.leave_trap(self.operator)
        tracee.restore_all()
        if stop.kind != "gate":
            tracee.go_on(self.operator)
            tracee.finish(self.operator)

    def _go_on_from_abort(self, keep: bool = False) -> None:
        if keep:
            self.tracee.step_over_trap(self.operator)
        else:
            self.tracee.leave_trap(self.operator)
            self.tracee.restore_all()
        self.tracee.go_on(self.operator)

    def _aborted(self) -> bool:
        """Wait until the operator is at the abort handler. Where it does not come, return False when it has ended."""
        stop = self.tracee.wait(self.operator, ABORT_LIMIT)
        if stop and stop.kind == "trap":
            return True
        self._release()
        return False

    # --- what aborts a section

    def _signal(self) -> bool:
        tracee = self.tracee
        tracee.interrupt(self.operator)
        stop = tracee.wait(self.operator, COMMAND_LIMIT)
        if stop is None:
            raise StuckError(self.operator)
        tracee.restore_all()
        return self._handle() and stop.address == self.address

    def _membarrier(self, flags: int) -> bool:
        tracee = self.tracee
        tracee.do(HELPER, lib.RSM_DO_MEMBARRIER, MEMBARRIER_RSEQ, flags, self.home)
        if error := tracee.error(HELPER):
            self._release()
            raise UnsupportedError(f"membarrier(2) for rseq: {os.strerror(error)}")
        if not self._aborted():
            return False
        self._go_on_from_abort()
        tracee.finish(self.operator)
        return True

    def _migrate(self) -> bool:
        tracee = self.tracee
        self.books.moved = True
        tracee.pin(self.operator, self.away)
        if not self._aborted():
            return False
        tracee.leave_trap(self.operator)
        tracee.restore_all()
        return self._let(HELPER, self.home)

    def _preempt(self) -> bool:
        """The helper wakes up on the operator's CPU, puts the instruction back and does an operation of its own."""
        tracee = self.tracee
        code = tracee.patches[self.address]
        tracee.order(HELPER, *self.books.command(HELPER))
        box = tracee.mailbox.box[HELPER]
        box.code_at, box.code_size, box.code = self.address, len(code), code.ljust(int(lib.RSM_CODE_SIZE), b"\0")
        tracee.pin(HELPER, self.home)
        tracee.go_on(HELPER)
        self.others.add(HELPER)
        undisturbed = self._await_helper()
        tracee.pin(HELPER, self.away)
        if error := tracee.error(HELPER):
            self._release()
            raise UnsupportedError(f"/proc/self/mem cannot be written: {os.strerror(error)}")
        tracee.patches.pop(self.address, None)
        if not self._aborted():
            return False
        self._go_on_from_abort()
        tracee.finish(self.operator)
        return undisturbed

    def _await_helper(self) -> bool:
        """Wait for the helper's operation. Return False if its own section was aborted, by something else."""
        tracee = self.tracee
        undisturbed = True
        end = time.monotonic() + COMMAND_LIMIT
        while time.monotonic() < end:
            stop = tracee.wait(HELPER, 0.001)
            if stop and stop.kind == "gate":
                return undisturbed
            if stop:
                undisturbed = False
                tracee.step_over_trap(HELPER)
                tracee.go_on(HELPER)
        raise StuckError(HELPER)
