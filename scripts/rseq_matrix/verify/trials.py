"""One interruption of one operation at one instruction: how it is brought about, and what proves that it happened.

A stop for the tracer aborts the critical section that it happens in, so a section is not interrupted by stopping in it.
Its instruction is replaced by a jump to itself while the operator is elsewhere, and the operator spins there, inside of
the armed section, until it is interrupted by what is to be tried. What proves it:

- signal: the stop before its delivery shows the instruction, and the frame that the handler gets shows the abort
  handler's address, because the kernel aborts before it builds the frame (kernel/rseq.c, rseq_signal_deliver());
- the others: a breakpoint at the abort handler, which the operator comes to after the event and not before; by then it
  was moved to the other CPU (migration), or has not been preempted and came at once (membarrier: a timer tick may abort
  a section, too, without a change of threads, but rarely in that very moment).

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
from rseq_matrix.verify.driven import (
    BREAKPOINT,
    GATE,
    HANDLER,
    HELPER,
    INTERRUPTION,
    SPIN,
    TRAP,
    UNREGISTERED_HELPER,
    CrashedError,
    DrivenProcess,
    StuckError,
    started,
)
from rseq_matrix.verify.effects import Books, Effect
from rseq_matrix.verify.subject import Subject

SPINS = 30e-6  # seconds in the armed section, after which the operator spins
HOLD_LIMIT = 0.2
ABORT_LIMIT = 0.1
AT_ONCE = 200e-6
WAITS = 0.02  # seconds that a helper gets before the operator, for which it may be waiting, goes on
REPEATS = 20
ABORTS_OF_HELPER = 100

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
    after: Section | None = None
    """A section that is aborted first: the operation comes to the instruction only when it tries again."""


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
        self._context: AbstractContextManager[DrivenProcess] | None = None
        self._driven: DrivenProcess | None = None

    @property
    def driven(self) -> DrivenProcess:
        """Return a process with all threads at their gates."""
        if self._driven is None:
            self._context = started(self.subject, self.program, self.cpus)
            self._driven = self._context.__enter__()
        return self._driven

    def close(self) -> None:
        """End the process."""
        if self._context:
            context, self._context, self._driven = self._context, None, None
            context.__exit__(None, None, None)

    def replace(self) -> None:
        """End the process; the next trial gets another."""
        self.restarts += 1
        self.close()

    # --- trials

    def attempt(self, place: Place, kind: str) -> Trial:
        """Try one interruption. What did not come about as wanted is repeated, unless something was wrong."""
        trial = self._once(place, kind)
        for _ in range(REPEATS if place.section else 1):
            if trial.happened or not trial.right:
                break
            self.repeats += 1
            trial = self._once(place, kind)
        return trial

    def _once(self, place: Place, kind: str) -> Trial:
        try:
            interruption = _Interruption(self.driven, place)
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
        driven = self._driven
        if not error.address or driven is None:
            return error.signal
        inside = driven.is_subject(error.address)
        return (
            f"{error.signal} at {error.address - driven.bias:#x}" if inside else f"{error.signal} outside of its code"
        )


class _Interruption:
    """One trial."""

    def __init__(self, driven: DrivenProcess, place: Place) -> None:
        self.driven = driven
        self.place = place
        self.operator = place.operator
        self.books = Books(driven, place.operation)
        self.others: set[int] = set()
        self.address = place.address + driven.bias

        self.home, self.away = driven.cpus[0], driven.cpus[-1]
        self.preemptions = 0
        """Of the operator, at a time before it came into the section that it is held in."""

    @property
    def abort(self) -> int:
        """Return where the section's abort handler is."""
        return (self.place.section.abort if self.place.section else 0) + self.driven.bias

    def settle(self) -> Effect:
        """Return what took effect."""
        self.driven.pin(self.operator, self.home)
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

    def _begin(self, patches: dict[int, bytes]) -> bool:
        """Let the operation begin, with patches in place once a section was aborted, if that is wanted.

        Return False where it ended without that.
        """
        driven, first = self.driven, self.place.after
        self.preemptions = driven.preemptions(self.operator)
        if first:
            driven.patch(first.start + driven.bias, BREAKPOINT)
            driven.begin(self.operator, *self.books.command(self.operator))
            if driven.await_stop_of(self.operator).kind == GATE:
                driven.restore_all()
                return False
            driven.leave_trap(self.operator)  # it goes on in the section, and so the stop aborts it
        for address, code in patches.items():
            driven.patch(address, code)
        if first:
            driven.restart(self.operator)
        else:
            driven.begin(self.operator, *self.books.command(self.operator))
        return True

    # --- outside of sections

    def _reach(self) -> bool:
        """Let the operation run up to the instruction. Return False where it ended without coming there."""
        driven = self.driven
        if not self._begin({self.address: BREAKPOINT}):
            return False
        stop = driven.await_stop_of(self.operator)
        if stop.kind == TRAP:
            driven.leave_trap(self.operator)
        driven.restore_all()
        return stop.kind == TRAP

    def _handle(self) -> bool:
        """Let the signal handler interrupt the operator, which stands still, and do an operation."""
        driven = self.driven
        driven.order(HANDLER, *self.books.command(HANDLER))
        before = driven.mailbox.interruptions
        driven.restart(self.operator, INTERRUPTION)
        driven.finish(self.operator)
        if driven.mailbox.interruptions == before:
            return False
        self.others.add(HANDLER)
        return bool(driven.mailbox.interrupted_at == (self.abort if self.place.section else self.address))

    def _move(self, helper: int) -> bool:
        """Move the operator to the other CPU and let somebody work on the CPU that it was on."""
        self.books.moved = True
        self.driven.pin(self.operator, self.away)
        return self._let(helper, self.home)

    def _let(self, helper: int, cpu: int) -> bool:
        """Let somebody do an operation while the operator stands still, and the operator go on then.

        Who waits for the operator (for a lock) gets what it waits for.
        """
        driven = self.driven
        driven.pin(helper, cpu)
        driven.begin(helper, *self.books.command(helper))
        self.others.add(helper)
        driven.wait(helper, WAITS)
        driven.restart(self.operator)
        driven.finish(self.operator)
        driven.finish(helper)
        driven.pin(helper, self.away)
        return True

    # --- holding it in a section

    def _hold(self, section: Section, trap: bool) -> bool:
        """Let the operation run until it spins at the instruction. Return False where it ended without."""
        driven = self.driven
        if not self._begin({self.address: SPIN} | ({self.abort: BREAKPOINT} if trap else {})):
            return False
        end = time.monotonic() + HOLD_LIMIT
        since = 0.0
        while (now := time.monotonic()) < end:
            driven.poll()
            stop = driven.stop_of(self.operator)
            if stop and stop.kind == GATE:
                driven.restore_all()
                return False
            if stop:  # aborted by something else
                self.preemptions = driven.preemptions(self.operator)
                self._restart_from_abort(keep=True)
                since = 0.0
            elif driven.is_armed(self.operator, section):
                since = since or now
                if now - since >= SPINS:
                    return True
            else:
                since = 0.0
        self._release()
        return False

    def _release(self) -> None:
        """Stop the operator, put everything back and let the operation end."""
        driven = self.driven
        stop = driven.stop_of(self.operator) or driven.halt(self.operator)
        if stop.kind == TRAP:
            driven.leave_trap(self.operator)
        driven.restore_all()
        if stop.kind != GATE:
            driven.restart(self.operator)
            driven.finish(self.operator)

    def _restart_from_abort(self, keep: bool = False) -> None:
        if keep:
            self.driven.step_over_trap(self.operator)
        else:
            self.driven.leave_trap(self.operator)
            self.driven.restore_all()
        self.driven.restart(self.operator)

    def _aborted(self) -> bool:
        """Wait until the operator is at the abort handler. Where it does not come, return False when it has ended."""
        stop = self.driven.wait(self.operator, ABORT_LIMIT)
        if stop and stop.kind == TRAP:
            return True
        self._release()
        return False

    # --- what aborts a section

    def _signal(self) -> bool:
        driven = self.driven
        driven.interrupt(self.operator)
        stop = driven.await_stop_of(self.operator)
        driven.restore_all()
        return self._handle() and stop.address == self.address

    def _membarrier(self, flags: int) -> bool:
        driven = self.driven
        driven.do(HELPER, lib.RSM_DO_MEMBARRIER, MEMBARRIER_RSEQ, flags, self.home)
        if error := driven.error(HELPER):
            self._release()
            raise UnsupportedError(f"membarrier(2) for rseq: {os.strerror(error)}")
        done = time.monotonic()
        if not self._aborted():
            return False
        at_once = time.monotonic() - done < AT_ONCE
        undisturbed = at_once and driven.preemptions(self.operator) == self.preemptions
        self._restart_from_abort()
        driven.finish(self.operator)
        return undisturbed

    def _migrate(self) -> bool:
        driven = self.driven
        self.books.moved = True
        driven.pin(self.operator, self.away)
        if not self._aborted():
            return False
        moved = driven.cpu(self.operator) == self.away
        driven.leave_trap(self.operator)
        driven.restore_all()
        return self._let(HELPER, self.home) and moved

    def _preempt(self) -> bool:
        """The helper wakes up on the operator's CPU, puts the instruction back and does an operation of its own."""
        driven = self.driven
        driven.poll()
        if driven.stop_of(self.operator):  # somebody else was faster
            self._release()
            return False
        code = driven.patches[self.address]
        driven.order(HELPER, *self.books.command(HELPER))
        box = driven.mailbox.box[HELPER]
        box.code_at, box.code_size, box.code = self.address, len(code), code.ljust(int(lib.RSM_CODE_SIZE), b"\0")
        driven.pin(HELPER, self.home)
        driven.restart(HELPER)
        self.others.add(HELPER)
        undisturbed = self._await_helper()
        driven.pin(HELPER, self.away)
        if error := driven.error(HELPER):
            self._release()
            raise UnsupportedError(f"/proc/self/mem cannot be written: {os.strerror(error)}")
        driven.patches.pop(self.address, None)
        if self.abort not in driven.patches:  # the helper waited for the operator
            driven.finish(self.operator)
            return False
        if not self._aborted():
            return False
        self._restart_from_abort()
        driven.finish(self.operator)
        return undisturbed

    def _await_helper(self) -> bool:
        """Wait for the helper's operation. Return False if something else happened to it or the operator meanwhile."""
        driven = self.driven
        undisturbed = True
        for _ in range(ABORTS_OF_HELPER):
            stop = driven.wait(HELPER, WAITS)
            waited_for = driven.stop_of(self.operator)
            if stop is None and waited_for and waited_for.kind == TRAP:
                self._restart_from_abort()
                undisturbed = False
            stop = driven.await_stop_of(HELPER)
            if stop.kind == GATE:
                return undisturbed
            undisturbed = False  # its own section was aborted
            driven.step_over_trap(HELPER)
            driven.restart(HELPER)
        raise StuckError(HELPER)
