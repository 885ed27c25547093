"""The events of a life that every libc passes, in their order, and which of them a stage comes after.

They are landmarks for a reader, and the places at which a design may register. Which stage falls behind which one
follows from the stage's phase in the registry, so there is no second list of stages.
"""

from __future__ import annotations

from dataclasses import dataclass

from rseq_matrix.model.stages import STAGES
from rseq_matrix.model.timeline import World

EXEC = "exec"
SELF_RELOCATION = "self-relocation"
THREAD_POINTER = "thread pointer"
LOADING = "audit modules and objects"
RELOCATION = "relocation"
TLS_IMAGES = "TLS initialized"
EARLY_INITIALIZATION = "early initialization"
PREINIT = "preinit array"
CONSTRUCTORS = "constructors of libraries"
PROGRAM_START = "program start"
MAIN = "main"
EXIT = "exit handlers"
DESTRUCTORS = "destructors"
END = "process ends"
THREAD_EXIT = "thread exit"


@dataclass(frozen=True)
class Words:
    """What happens at an event, and where that is written."""

    because: str
    reference: str


DYNAMIC = {
    SELF_RELOCATION: Words("ld.so relocates itself; no other object is mapped by it yet", "glibc elf/rtld.c _dl_start"),
    LOADING: Words(
        "ld.so loads audit modules into namespaces of their own, then maps what the program needs",
        "glibc elf/rtld.c load_audit_modules, dl_main",
    ),
    RELOCATION: Words(
        "ld.so relocates each object, the last one needed first and the program last; IFUNC resolvers run inside",
        "glibc elf/rtld.c dl_main, elf/dl-reloc.c _dl_relocate_object; bug 30976",
    ),
    TLS_IMAGES: Words(
        "the initial contents of thread-local variables are copied into the main thread's block",
        "glibc elf/rtld.c dl_main, elf/dl-tls.c _dl_allocate_tls_init",
    ),
    EARLY_INITIALIZATION: Words(
        "ld.so calls __libc_early_init() in libc, before any constructor",
        "glibc elf/libc_early_init.c, commit ec935dea6332 (2.32)",
    ),
    PREINIT: Words("ld.so calls the program's DT_PREINIT_ARRAY", "glibc elf/dl-init.c _dl_init"),
    CONSTRUCTORS: Words(
        "ld.so calls the constructors of libraries and preloaded objects", "glibc elf/dl-init.c _dl_init"
    ),
    PROGRAM_START: Words(
        "_start calls __libc_start_main(), which runs the program's own constructors, then la_preinit",
        "glibc csu/libc-start.c (before 2.34 through csu/elf-init.c __libc_csu_init)",
    ),
}
STATIC = {
    SELF_RELOCATION: Words(
        "a static-pie applies its own relocations, except those that call a resolver",
        "glibc elf/dl-reloc-static-pie.c, commit b75ad99d45b7",
    ),
    RELOCATION: Words(
        "IRELATIVE relocations are applied: the program's IFUNC resolvers run",
        "glibc csu/libc-start.c apply_irel; static-pie: elf/dl-reloc-static-pie.c",
    ),
    EARLY_INITIALIZATION: Words("__libc_early_init() and __libc_init_first()", "glibc csu/libc-start.c"),
    PREINIT: Words("the program's DT_PREINIT_ARRAY", "glibc csu/libc-start.c call_init"),
    PROGRAM_START: Words("the program's constructors", "glibc csu/libc-start.c call_init"),
}
EVERYWHERE = {
    MAIN: Words("__libc_start_main() calls main()", "glibc sysdeps/nptl/libc_start_call_main.h"),
    EXIT: Words("exit() calls the handlers, the last one registered first", "glibc stdlib/exit.c"),
    DESTRUCTORS: Words("destructors run, audit modules' last", "glibc elf/dl-fini.c _dl_fini"),
    END: Words("exit_group(); the kernel drops what is registered with the thread", "Linux kernel/exit.c do_exit"),
    THREAD_EXIT: Words(
        "the area stays registered until the kernel ends the thread", "glibc nptl/pthread_create.c start_thread"
    ),
}

_BY_PHASE = {
    "loading": LOADING,
    "relocation": RELOCATION,
    "early initialization": PREINIT,
    "main": MAIN,
    "exit": EXIT,
    "termination": DESTRUCTORS,
}
_BY_LOADER = ("preload", "library", "signal")
"""Carriers whose constructors ld.so calls; the others' are called by __libc_start_main()."""


_DYNAMIC_START = (
    EXEC,
    SELF_RELOCATION,
    THREAD_POINTER,
    LOADING,
    RELOCATION,
    TLS_IMAGES,
    EARLY_INITIALIZATION,
    PREINIT,
    CONSTRUCTORS,
    PROGRAM_START,
)
_END = (MAIN, EXIT, DESTRUCTORS, END)


def order(world: World) -> tuple[str, ...]:
    """Return the events of the main thread in the order of this link."""
    if world.dynamic:
        return (*_DYNAMIC_START, *_END)
    begin: tuple[str, ...] = (RELOCATION, THREAD_POINTER)
    if world.static_thread_pointer_first:
        begin = (THREAD_POINTER, RELOCATION)
        if world.link == "static-pie":
            begin = (SELF_RELOCATION, *begin)
    return (EXEC, *begin, EARLY_INITIALIZATION, PREINIT, PROGRAM_START, *_END)


def words(event: str, world: World) -> Words:
    """Return what happens at an event in this link."""
    table = {**EVERYWHERE, **(DYNAMIC if world.dynamic else STATIC)}
    return table[event]


def place(stage: str, world: World, bound: str) -> str:
    """Return the event that a stage comes after. bound: "now" or "lazy", for what comes when a call is bound."""
    known = STAGES[stage]
    if known.phase == "binding":
        return RELOCATION if bound == "now" else MAIN
    if known.phase != "initialization":
        return _BY_PHASE[known.phase]
    return CONSTRUCTORS if world.dynamic and known.carrier in _BY_LOADER else PROGRAM_START
