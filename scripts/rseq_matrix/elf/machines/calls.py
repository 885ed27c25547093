"""Finds direct calls and tail calls in code without disassembling it: whatever has the bytes of one, data included.

A tail call is a jump, so that every jump of that form is found. A caller looks at few targets and then follows the
function around the site, so that a false one does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Calls(NamedTuple):
    """Call sites with the address that each goes to, as columns; and calls through a word, with the word's address."""

    sites: Any
    targets: Any
    word_sites: Any
    words: Any
    thumb: Any = None  # arm: whether each site is Thumb's


Finder = Callable[[Any, int], Calls]

NONE = np.array([], dtype=np.int64)


def _displacements(code: Any, places: Any) -> Any:
    """Return the signed little-endian 32-bit numbers at these places."""
    parts = [code[places + byte].astype(np.int64) << (8 * byte) for byte in range(4)]
    whole = parts[0] | parts[1] | parts[2] | parts[3]
    return (whole ^ 0x80000000) - 0x80000000


def _sites(code: Any, first: tuple[int, ...], second: tuple[int, ...] = ()) -> Any:
    """Return where opcode bytes start, one of `first` and then one of `second`, with room for four bytes behind."""
    wanted = np.logical_or.reduce([code == byte for byte in first])
    if second:
        wanted = wanted[:-1] & np.logical_or.reduce([code[1:] == byte for byte in second])
    places = np.flatnonzero(wanted)
    return places[places + 6 <= len(code)]


CALL_OR_JUMP = (0xE8, 0xE9)
GROUP_5, CALL_OR_JUMP_WORD = (0xFF,), (0x15, 0x25)  # ModR/M of a call or jump through a word at disp32


def x86_64(code: Any, base: int) -> Calls:
    """`call rel32`, `jmp rel32`, and both through a word at disp32(%rip)."""
    direct, indirect = _sites(code, CALL_OR_JUMP), _sites(code, GROUP_5, CALL_OR_JUMP_WORD)
    return Calls(
        direct + base,
        direct + base + 5 + _displacements(code, direct + 1),
        indirect + base,
        indirect + base + 6 + _displacements(code, indirect + 2),
    )


def i386(code: Any, base: int) -> Calls:
    """`call rel32`, `jmp rel32`, and both through a word at disp32."""
    direct, indirect = _sites(code, CALL_OR_JUMP), _sites(code, GROUP_5, CALL_OR_JUMP_WORD)
    return Calls(
        direct + base,
        (direct + base + 5 + _displacements(code, direct + 1)) & 0xFFFFFFFF,
        indirect + base,
        _displacements(code, indirect + 2) & 0xFFFFFFFF,
    )


def s390x(code: Any, base: int) -> Calls:
    """`brasl` (c0?5) and `jg` (c0f4), each with a 32-bit number of half-words, big-endian."""
    if len(code) < 6:
        return Calls(NONE, NONE, NONE, NONE)
    second = code[1:-4:2]
    even = np.flatnonzero((code[0:-5:2] == 0xC0) & (((second & 15) == 5) | (second == 0xF4))) * 2
    parts = [code[even + 2 + byte].astype(np.int64) << (8 * (3 - byte)) for byte in range(4)]
    whole = parts[0] | parts[1] | parts[2] | parts[3]
    return Calls(even + base, even + base + 2 * ((whole ^ 0x80000000) - 0x80000000), NONE, NONE)


def fixed(mask: int, pattern: int, bits: int, shift: int, low: int = 0, ahead: int = 0) -> Finder:
    """Return the finder for a call of one aligned word: `bits` of displacement from bit `low`, times 2**shift."""

    def find(code: Any, base: int) -> Calls:
        words = np.frombuffer(code[: len(code) // 4 * 4].tobytes(), dtype="<u4").astype(np.int64)
        places = np.flatnonzero((words & mask) == pattern)
        numbers = (words[places] >> low) & ((1 << bits) - 1)
        signed = (numbers ^ (1 << (bits - 1))) - (1 << (bits - 1))
        sites = places * 4 + base
        return Calls(sites, sites + ahead + (signed << shift), NONE, NONE)

    return find


aarch64 = fixed(0x7C000000, 0x14000000, 26, 2)  # bl, b
_arm = fixed(0x0E000000, 0x0A000000, 24, 2, ahead=8)


def _thumb(code: Any, base: int) -> tuple[Any, Any]:
    """`bl`, `blx` and `b.w`: the upper parts of the displacement are in the first half-word."""
    halves = np.frombuffer(code[: len(code) // 2 * 2].tobytes(), dtype="<u2").astype(np.int64)
    first, second = halves[:-1], halves[1:]
    places = np.flatnonzero(((first & 0xF800) == 0xF000) & np.isin(second & 0xD000, (0xD000, 0xC000, 0x9000)))
    first, second = first[places], second[places]
    sign = first >> 10 & 1
    upper = (second >> 13 & 1 ^ sign ^ 1) << 23 | (second >> 11 & 1 ^ sign ^ 1) << 22 | (first & 0x3FF) << 12
    sites = places * 2 + base
    counter = np.where((second & 0xD000) == 0xC000, sites & -4, sites) + 4  # `blx` leads to ARM code, which is aligned
    return sites, counter + (upper | (second & 0x7FF) << 1) - (sign << 24)


def arm(code: Any, base: int) -> Calls:
    """`bl` and `b`, and those of Thumb."""
    sites, targets, _, _, _ = _arm(code, base)
    thumb_sites, thumb_targets = _thumb(code, base)
    return Calls(
        np.concatenate([sites, thumb_sites]),
        np.concatenate([targets, thumb_targets]),
        NONE,
        NONE,
        np.repeat([False, True], [len(sites), len(thumb_sites)]),
    )


ppc64 = fixed(0xFC000002, 0x48000000, 24, 2, low=2)  # bl, b


def riscv(code: Any, base: int) -> Calls:
    """`auipc` with `jalr` behind it (what `call` and `tail` assemble to: by ra, or by t1 without a link), and `jal`."""
    halves = np.frombuffer(code[: len(code) // 2 * 2].tobytes(), dtype="<u2").astype(np.int64)
    words = halves[:-1] | halves[1:] << 16 if len(halves) > 1 else NONE
    far = np.flatnonzero(np.isin(words[:-2] & 0xFFF, (0x097, 0x317))) if len(words) > 2 else NONE
    far = far[np.isin(words[far + 2] & 0xFFFFF, (0x080E7, 0x30067))]
    upper = ((words[far] & 0xFFFFF000) ^ 0x80000000) - 0x80000000
    lower = ((words[far + 2] >> 20) ^ 0x800) - 0x800
    near = np.flatnonzero(np.isin(words & 0xFFF, (0x0EF, 0x06F)))
    word = words[near]
    number = (word >> 31 << 20) | (word >> 12 & 0xFF) << 12 | (word >> 20 & 1) << 11 | (word >> 21 & 0x3FF) << 1
    sites = np.concatenate([far, near]) * 2 + base
    offsets = np.concatenate([upper + lower, (number ^ 0x100000) - 0x100000])
    return Calls(sites, sites + offsets, NONE, NONE)
