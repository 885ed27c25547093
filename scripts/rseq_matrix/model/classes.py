"""The class of a cell, from three facts, and what a class means for a library.

The model (what should be) and the judgement (what was seen) both name classes, so the naming is here, once.
"""

from __future__ import annotations

REGISTERED = "registered"
UNREGISTERED = "unregistered"
BLIND = "blind"
HIDDEN = "hidden"
STALE = "stale"
DEAD = "dead"

MEANING = {
    REGISTERED: "the fast path is right",
    UNREGISTERED: "the fallback is needed, and a library can see that",
    BLIND: "no thread pointer yet: reading it faults, only raw system calls are safe",
    HIDDEN: "registered, but this code cannot see it: the fallback, only slower",
    STALE: "HAZARD: it looks registered, the kernel protects nothing",
    DEAD: "HAZARD: registered, but cpu_id does not follow the thread",
}

HAZARDS = (STALE, DEAD)


def classify(thread_pointer: bool, kernel: bool, user: bool, follows: bool = True) -> str:
    """Name the class.

    thread_pointer: it is set; kernel: the kernel has an rseq area registered for the thread; user: a library that
    follows glibc's manual concludes that it has; follows: cpu_id in the area is the CPU that the thread is on.
    """
    if not thread_pointer:
        return BLIND
    if kernel and user:
        return REGISTERED if follows else DEAD
    if kernel:
        return HIDDEN
    return STALE if user else UNREGISTERED


def right_path(name: str) -> str:
    """Return how a subject must add in a cell of this class: "fast" or "fallback"."""
    return "fast" if name == REGISTERED else "fallback"
