"""The features of the running kernel, by which its rules differ from those of others: asked for, or found by trying."""

from __future__ import annotations

from dataclasses import dataclass

from rseq_matrix._native import lib
from rseq_matrix.build import build
from rseq_matrix.errors import MissingError
from rseq_matrix.kernels.host import kernel, require_platform
from rseq_matrix.kernels.replay import Player, ReplayedStep, program
from rseq_matrix.kernels.rules import (
    EFAULT,
    KERNEL_HALF,
    LEAVES,
    ORIGINAL_LENGTH,
    READ_ONLY,
    READS,
    SIGSEGV,
    UNMAPPED,
    UNREGISTER,
    USER_END,
    WRITABLE,
    WRITES,
    Call,
    Features,
)
from rseq_matrix.kernels.sequences import BASES, CallStep, becomes, by_main

SIGNATURE = int(lib.rsm_native_signature)
PRESENT = "present"
ATTEMPTS = 3
"""An interruption while the area is spoilt kills the child before the call that is tried: then it is tried again."""


@dataclass(frozen=True)
class Host:
    """The kernel that can be asked here."""

    features: Features
    rseq: str
    """"present", or what rseq(2) is answered with by whatever stands before the kernel."""
    player: Player | None
    """None where no child can be made."""
    problem: str = ""
    """Why not."""

    @property
    def can_replay(self) -> bool:
        """Return whether the kernel itself answers here."""
        return self.player is not None and self.rseq == PRESENT


def call_at(memory: str, flags: int = 0, offset: int = 0) -> Call:
    """Return a call that is right but for what is asked."""
    return Call(BASES[memory] + offset, ORIGINAL_LENGTH, flags, SIGNATURE)


def _flags(player: Player) -> int:
    bits = [1 << bit for bit in range(1, 32)]
    seen = player.play([[by_main(call_at(WRITABLE, bit))] for bit in bits])
    return sum(bit for bit, (answer, *_) in zip(bits, seen, strict=True) if answer.word == "0")


def _after_damage(player: Player) -> str:
    """Return what an unregistration is answered whose area has become read-only."""
    damaged: list[CallStep] = [by_main(call_at(WRITABLE)), becomes(READ_ONLY), by_main(call_at(WRITABLE, UNREGISTER))]
    for _ in range(ATTEMPTS):
        seen = player.answer(damaged)
        if seen.word != SIGSEGV:
            return EFAULT
    return SIGSEGV


def asked_features() -> Features:
    """Return what the kernel tells by itself."""
    running = kernel()
    return Features(running.feature_size, running.align)


def find_features(player: Player) -> Features:
    """Return what the kernel tells, and what trying shows."""
    told = asked_features()
    both = by_main(call_at(WRITABLE, UNREGISTER | 1 << 31))
    tried: list[list[ReplayedStep]] = player.play(
        [
            [by_main(call_at(UNMAPPED))],
            [by_main(call_at(READ_ONLY))],
            [by_main(call_at(WRITABLE)), both],
            [by_main(Call(USER_END, ORIGINAL_LENGTH, 0, SIGNATURE))],
        ]
    )
    unmapped, read_only, flagged, outside = (seen[-1].word for seen in tried)
    return Features(
        told.feature_size,
        told.align,
        flags=_flags(player),
        refuses_flags=flagged != "0",
        touches=WRITES if read_only == EFAULT else READS if unmapped == EFAULT else LEAVES,
        reset_error=_after_damage(player),
        end=USER_END if outside == EFAULT else KERNEL_HALF,
    )


def make_player() -> Player:
    """Build what makes the calls."""
    require_platform()
    return Player(program(build(), "calls"))


def here() -> Host:
    """Return the kernel that runs here; where nothing can be tried, what it tells by itself."""
    running = kernel()
    try:
        player = make_player()
        if not running.has_rseq:
            return Host(asked_features(), running.rseq, player, f"rseq(2) is answered with {running.rseq} here")
        return Host(find_features(player), PRESENT, player)
    except MissingError as error:
        return Host(asked_features(), running.rseq, None, str(error))
