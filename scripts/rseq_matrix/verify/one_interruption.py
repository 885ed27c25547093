"""One operation, interrupted at one instruction: how that is brought about, and what proves that it happened.

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
    DrivenProcess,
    StuckError,
)
from rseq_matrix.verify.effects import Books, Effect
from rseq_matrix.verify.trials import (
    MEMBARRIER,
    MEMBARRIER_CPU,
    MIGRATION,
    OTHER_CPU,
    PREEMPTION,
    PREEMPTION_UNREGISTERED,
    SIGNAL,
    InterruptionPoint,
    UnsupportedError,
)

SPINS = 30e-6  # seconds in the armed section, after which the operator spins
HOLD_LIMIT = 0.2  # seconds to come to the instruction that it spins at
ABORT_LIMIT = 0.1  # seconds from an event to the abort handler
AT_ONCE = 200e-6  # seconds from membarrier(2) to the abort handler, where nothing else can have aborted
WAITS = 0.02  # seconds that a helper gets before the operator, for which it may be waiting, goes on
ABORTS_OF_HELPER = 100

MEMBARRIER_RSEQ, MEMBARRIER_FLAG_CPU = 1 << 7, 1  # linux/membarrier.h


class OneInterruption:
    """One operation, and how it is interrupted. Times are in seconds."""

    def __init__(self, driven: DrivenProcess, point: InterruptionPoint) -> None:
        self.driven = driven
        self.point = point
        self.operator = point.operator
        self.books = Books(driven, point.operation)
        self.others: set[int] = set()
        self.address = point.address + driven.bias

        self.home, self.away = driven.cpus[0], driven.cpus[-1]
        self.preemptions = 0
        """Of the operator, at a time before it came into the section that it is held in."""

    @property
    def abort(self) -> int:
        """Return where the section's abort handler is."""
        return (self.point.section.abort if self.point.section else 0) + self.driven.bias

    def settle(self) -> Effect:
        """Return what took effect."""
        self.driven.pin(self.operator, self.home)
        return self.books.settle(self.operator, sorted(self.others))

    def go(self, kind: str) -> bool:
        """Return whether it happened."""
        self.books.prepare(self.operator)
        section = self.point.section
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
        """Let the operation begin, with patches in place once a section was aborted, if one has to be.

        Return False where it ended without that.
        """
        driven, first = self.driven, self.point.after
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
        """Let the signal handler interrupt the operator, which is stopped, and do an operation."""
        driven = self.driven
        driven.order(HANDLER, *self.books.command(HANDLER))
        before = driven.mailbox.interruptions
        driven.restart(self.operator, INTERRUPTION)
        driven.finish(self.operator)
        if driven.mailbox.interruptions == before:
            return False
        self.others.add(HANDLER)
        return bool(driven.mailbox.interrupted_at == (self.abort if self.point.section else self.address))

    def _move(self, helper: int) -> bool:
        """Move the operator to the other CPU and let another thread work on the CPU that it was on."""
        self.books.moved = True
        self.driven.pin(self.operator, self.away)
        return self._let(helper, self.home)

    def _let(self, helper: int, cpu: int) -> bool:
        """Let another thread do an operation while the operator is stopped, and restart the operator then.

        A thread that waits for the operator (for a lock) gets what it waits for.
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
        if driven.stop_of(self.operator):  # something else aborted it first
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
