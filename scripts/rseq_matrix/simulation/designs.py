"""The integration designs: what libc registers when, where the area lies, and what user code reads there.

A design is a set of rules over those of the timeline, and the events at which they apply. Everything else of a life is
the timeline's. A design that exists as a libc adds no rule, so that what is simulated is what `run` is judged by.

The 2019 design is version 12 of the patch of that name (libc-alpha, 2019-08-07), the one that was under review when
the talk was held: __rseq_abi in libc, __rseq_handled in ld.so, the reference count in librseq. The 2020 design is what
was merged into glibc on 2020-07-06 (0c76fc3c2b34) and taken out before 2.32 (efedd1ed3d21).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rseq_matrix.model.stages import STAGES
from rseq_matrix.model.timeline import BEFORE, BEHIND, DEFAULT, NOWHERE, RULES, Conditions, Rule, State, World
from rseq_matrix.simulation import landmarks
from rseq_matrix.simulation.landmarks import Words

REGISTRATION = "registration"
THREAD_REGISTRATION = "thread registration"
OWNERSHIP = "__rseq_handled is set"
LIBRARY = "a library registers"
FOREIGN_LIBRARY = "a library of another namespace registers"

SHARED = "shared"
OWN = "own"


@dataclass(frozen=True)
class DesignState(State):
    """A thread's three facts, and what else a design needs to know of it and its process."""

    holds: str = ""
    """Which area the kernel has: "shared", the one that libc would register, or an "own" one of the library's."""
    handled: bool = False
    """The flag __rseq_handled of the 2019 design."""
    fatal: str = ""
    """What libc said when it ended the process."""


@dataclass(frozen=True)
class Fact:
    """A property of a design, in words."""

    text: str
    reference: str


@dataclass(frozen=True)
class Design:
    """A way in which libc integrates rseq."""

    name: str
    summary: str
    registers: bool
    static_thread_pointer_first: bool
    tunable: bool
    area: str
    """Where the area lies, seen from the thread pointer, on x86-64: a word of the timeline's."""
    audit_binds_lazily: bool
    """Any audit library makes binding lazy (bug 15533, mended by glibc commit 063f9ba220f4 in 2.35)."""
    facts: Mapping[str, Fact]
    rules_after: Mapping[str, tuple[str, ...]]
    """Rules that apply after an event, in a dynamic program."""
    static_rules_after: Mapping[str, tuple[str, ...]]
    """The same in a static one."""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    words: Mapping[str, Words] = field(default_factory=dict)
    """What happens at an event, where it is not what landmarks.py says."""
    skips: tuple[str, ...] = ()
    """Events that this design's libc does not have yet, in a dynamic program."""
    symbol: bool = False
    """The area is a thread-local symbol of libc, __rseq_abi: each namespace that has a libc has one of its own."""

    @property
    def symbol_name(self) -> str | None:
        """Return the symbol by which a library finds the area; None where libc has no area."""
        return "__rseq_abi" if self.symbol else "__rseq_offset" if self.registers else None

    def world(self, link: str, environment: Conditions, kernel: str) -> World:
        """Tell the timeline what this design's libc is like."""
        return World(
            link=link,
            environment=environment if self.tunable else DEFAULT,
            libc_registers=self.registers,
            kernel_rseq=kernel,
            static_thread_pointer_first=self.static_thread_pointer_first,
            area=self.area,
            audit_binds_lazily=self.audit_binds_lazily,
        )

    def all_rules(self) -> dict[str, Rule]:
        """Return the timeline's rules with this design's over them."""
        libraries = {LIBRARY: _library(self.symbol), FOREIGN_LIBRARY: _library(shared=False)}
        return {**RULES, **_COMMON, **libraries, **self.rules}

    def rules_by_event(self, world: World) -> Mapping[str, tuple[str, ...]]:
        """Return the rules that apply after each event."""
        return self.rules_after if world.dynamic else self.static_rules_after

    def view(self, state: State, stage: str) -> State:
        """Return the state as code of a stage sees it, which may live in another namespace than the program."""
        if not self.symbol or not state.thread_pointer or not foreign(stage):
            return state
        if STAGES[stage].hook == "ifunc_resolver" and not state.kernel:
            return replace(state, user=True, because=_FOREIGN_ZERO.because, reference=_FOREIGN_ZERO.reference)
        seen = _FOREIGN_HIDDEN if state.kernel else _FOREIGN_UNINITIALIZED
        return replace(state, user=False, because=seen.because, reference=seen.reference)


# --- all designs


def _exec(_state: State, _world: World) -> State:
    return DesignState()


_COMMON = {"exec": replace(RULES["exec"], apply=_exec)}


def foreign(stage: str) -> bool:
    """Return whether a stage's code lives in a namespace that has a libc of its own."""
    known = STAGES[stage]
    return known.carrier == "audit" or known.hook.startswith("dlmopen")


def _library(shared: bool) -> Rule:
    """Return the rule for a library that registers its thread itself: with libc's area, or with one of its own."""

    def register(state: State, world: World) -> State:
        if not isinstance(state, DesignState) or state.kernel or world.kernel_rseq != "present":
            return state
        same = shared and state.thread_pointer
        return replace(state, kernel=True, user=same, owner="subject", holds=SHARED if same else OWN)

    return Rule(register, "a library registers an area for this thread", "rseq(2)")


def _yields(state: State, world: World) -> State:
    """Registration by libc where a library may have been there first: libc goes without, the library's area stays."""
    if not state.kernel:
        return RULES[REGISTRATION].apply(state, world)
    hindrance = world.hinders(state)
    if hindrance:
        because, reference = hindrance
        return replace(state, because=because, reference=reference)
    return replace(
        state,
        user=False,
        because="libc's registration fails with EINVAL: a library has registered another area for this thread",
        reference="rseq(2); glibc sysdeps/nptl/dl-tls_init_tp.c __tls_init_tp sets __rseq_size to 0",
    )


# --- __rseq_abi, a thread-local symbol of libc

_FOREIGN_ZERO = Words(
    "thread-local variables of an audit module's namespace are zero while its resolvers run: cpu_id 0 reads as CPU 0",
    "glibc elf/dl-open.c dl_open_worker initializes static TLS after relocation",
)
_FOREIGN_UNINITIALIZED = Words(
    "__rseq_abi of this namespace's own libc says RSEQ_CPU_ID_UNINITIALIZED, and nothing is registered yet",
    "libc-alpha 2019-06-04, F. Weimer on v10",
)
_FOREIGN_HIDDEN = Words(
    "the program's __rseq_abi is registered, but this namespace has a libc and an __rseq_abi of its own",
    "libc-alpha 2019-06-04, F. Weimer on v10; glibc commit 03e187a41d91",
)
_V12 = "libc-alpha 2019-08-07, rseq patch v12"
_ADDED = "glibc commit 0c76fc3c2b34"
_SYMBOL_FACTS = {
    "__rseq_size": Fact(
        "there is none: the size is a part of libc's ABI, which is why the design was given up",
        "glibc commit efedd1ed3d21",
    ),
    "static program": Fact("resolvers run before the thread pointer is set", "glibc csu/libc-start.c"),
}
_TOLERATED = ("ENOSYS", "EPERM", "EACCES")
"""The errors after which the design of 2020 goes on without rseq."""


def _zero_block(state: State, world: World) -> State:
    """Dynamic: TLS blocks have their contents only after relocation. Static: they are copied before."""
    if not world.dynamic:
        return replace(
            state,
            thread_pointer=True,
            user=state.kernel and state.user,
            because="libc has set the thread pointer, and __rseq_abi says RSEQ_CPU_ID_UNINITIALIZED",
            reference="glibc csu/libc-tls.c __libc_setup_tls",
        )
    return replace(state, thread_pointer=True, user=True)


def _images(state: State, _world: World) -> State:
    return replace(state, user=False)


def _new_thread(state: State, _world: World) -> State:
    return replace(state, kernel=False, user=False, owner="none", task="thread")


def _refused(state: State, world: World) -> State | None:
    """Return the state where no registration is possible here; None where one is."""
    hindrance = world.hinders(state)
    if not hindrance:
        return None
    because, reference = hindrance
    return replace(state, kernel=False, user=False, owner="none", because=because, reference=reference)


def _register_2019(state: State, world: World) -> State:
    if not isinstance(state, DesignState):
        return state
    if state.kernel:
        if state.holds == SHARED:
            return replace(state, because="libc's registration answers EBUSY, which is tolerated", reference=_V12)
        return replace(
            state,
            user=False,
            because="libc's registration fails with EINVAL, so it sets cpu_id to RSEQ_CPU_ID_REGISTRATION_FAILED",
            reference=_V12,
        )
    return _refused(state, world) or replace(state, kernel=True, user=True, owner="glibc", holds=SHARED)


def _register_2020(state: State, world: World) -> State:
    if not isinstance(state, DesignState):
        return state
    problem = ""
    if state.kernel and state.holds == OWN:
        problem = "rseq parameters are invalid"
    elif state.kernel:
        problem = f"rseq already {'initialized' if state.user else 'registered'} for this thread"
    elif world.kernel_rseq not in ("present", "success", *_TOLERATED):
        problem = "rseq parameters are invalid" if world.kernel_rseq == "EINVAL" else "unexpected rseq errno"
    if not problem:
        return _refused(state, world) or replace(state, kernel=True, user=True, owner="glibc", holds=SHARED)
    return replace(
        state,
        fatal=f"glibc fatal error: {problem}",
        because="libc ends the process when the registration fails in a way that it does not expect",
        reference=f"{_ADDED} sysdeps/unix/sysv/linux/rseq-internal.h",
    )


def _own_flag(state: State, _world: World) -> State:
    return replace(state, handled=True) if isinstance(state, DesignState) else state


def _unregister_thread(state: State, _world: World) -> State:
    return replace(state, kernel=False, user=False, owner="none")


_SYMBOL_RULES = {
    landmarks.THREAD_POINTER: Rule(
        _zero_block,
        "the thread pointer is set, but thread-local variables are still zero: cpu_id 0 in __rseq_abi reads as CPU 0",
        "glibc elf/rtld.c init_tls; contents come with elf/dl-tls.c _dl_allocate_tls_init",
    ),
    landmarks.TLS_IMAGES: Rule(
        _images,
        "__rseq_abi has its initial contents: cpu_id is RSEQ_CPU_ID_UNINITIALIZED until libc registers",
        "glibc elf/rtld.c dl_main, elf/dl-tls.c _dl_allocate_tls_init",
    ),
    "new thread": Rule(
        _new_thread,
        "clone(CLONE_VM) drops the registration, and the new TLS block says RSEQ_CPU_ID_UNINITIALIZED",
        "Linux include/linux/rseq.h rseq_fork; glibc elf/dl-tls.c _dl_allocate_tls_init",
    ),
    "zeroed TLS block": Rule(
        lambda state, _world: replace(state, kernel=False, user=True, owner="none", task="thread"),
        "nobody registers a raw thread's area, cpu_id 0 reads as CPU 0, and there is no __rseq_size to ask first",
        "rseq(2); glibc commit 0c76fc3c2b34 manual/threads.texi",
    ),
    "unregistration": replace(
        RULES["unregistration"], because="the kernel sets cpu_id to RSEQ_CPU_ID_UNINITIALIZED when it unregisters"
    ),
}

_SYMBOL_AREA = "libc has a place for the area: __rseq_abi, a thread-local variable of its own, in static TLS"

HANDLED_2019 = Design(
    name="handled-2019",
    summary="proposed in 2019: __rseq_abi in libc, and a shared flag __rseq_handled for the one that registers",
    registers=True,
    static_thread_pointer_first=False,
    tunable=False,
    area=BEFORE,
    audit_binds_lazily=True,
    symbol=True,
    rules_after={landmarks.TLS_IMAGES: (OWNERSHIP,), landmarks.PROGRAM_START: (REGISTRATION,)},
    static_rules_after={landmarks.THREAD_POINTER: (REGISTRATION,), landmarks.EARLY_INITIALIZATION: (OWNERSHIP,)},
    skips=(landmarks.EARLY_INITIALIZATION,),
    rules={
        **_SYMBOL_RULES,
        OWNERSHIP: Rule(
            _own_flag,
            "ld.so says that libc will register, so that no library does; resolvers and audit modules come before that",
            f"{_V12}, elf/rtld.c and elf/dl-support.c rseq_init",
        ),
        REGISTRATION: Rule(
            _register_2019,
            "__libc_start_main() registers the main thread, after the constructors of libraries",
            f"{_V12}, csu/libc-start.c",
        ),
        THREAD_REGISTRATION: Rule(
            _register_2019, "libc registers a thread before its start routine", f"{_V12}, nptl/pthread_create.c"
        ),
        landmarks.THREAD_EXIT: Rule(
            _unregister_thread,
            "libc unregisters a thread after its destructors, and aborts if that fails",
            f"{_V12}, nptl/pthread_create.c",
        ),
    },
    words={
        "area": Words(_SYMBOL_AREA, f"{_V12}, rseq-sym.c"),
        landmarks.EARLY_INITIALIZATION: Words("__libc_init_first()", "glibc 2.30 csu/libc-start.c"),
        landmarks.PROGRAM_START: Words(
            "_start calls __libc_start_main(), which will run the program's own constructors, then la_preinit",
            "glibc 2.30 csu/libc-start.c, csu/elf-init.c",
        ),
        landmarks.PREINIT: Words("the program's DT_PREINIT_ARRAY", "glibc 2.30 elf/dl-init.c, csu/elf-init.c"),
    },
    facts={
        "seen by": Fact("the thread-local symbol __rseq_abi of libc; cpu_id >= 0", f"{_V12}, sys/rseq.h"),
        "area": Fact("static TLS of libc, 32 bytes, one for each namespace's libc", f"{_V12}, rseq-sym.c"),
        "main thread": Fact("registered in __libc_start_main(), after libraries' constructors", _V12),
        "failure": Fact("EBUSY tolerated, else cpu_id RSEQ_CPU_ID_REGISTRATION_FAILED", f"{_V12}, rseq-internal.h"),
        "thread exit": Fact("unregistered by libc, abort() if that fails", f"{_V12}, nptl/pthread_create.c"),
        "a library may": Fact(
            "register where __rseq_handled is 0, counting its users in a __rseq_refcount of its own",
            "librseq commit 17f997b1; libc-alpha 2020-02-20, M. Desnoyers",
        ),
        "switched off by": Fact("nothing", _V12),
        **_SYMBOL_FACTS,
    },
)

ABI_2020 = Design(
    name="abi-2020",
    summary="merged in July 2020, reverted before 2.32: __rseq_abi in libc, registered in early initialization",
    registers=True,
    static_thread_pointer_first=False,
    tunable=False,
    area=BEFORE,
    audit_binds_lazily=True,
    symbol=True,
    rules_after={landmarks.EARLY_INITIALIZATION: (REGISTRATION,)},
    static_rules_after={landmarks.EARLY_INITIALIZATION: (REGISTRATION,)},
    rules={
        **_SYMBOL_RULES,
        REGISTRATION: Rule(
            _register_2020,
            "__libc_early_init() registers the main thread: after relocation, before any constructor",
            f"{_ADDED} elf/libc_early_init.c",
        ),
        THREAD_REGISTRATION: Rule(
            _register_2020, "libc registers a thread before its start routine", f"{_ADDED} nptl/pthread_create.c"
        ),
    },
    words={
        "area": Words(_SYMBOL_AREA, f"{_ADDED} sysdeps/unix/sysv/linux/rseq-sym.c"),
        landmarks.THREAD_EXIT: Words(
            "left to the kernel, though the commit's message says that libc unregisters",
            f"{_ADDED} nptl/pthread_create.c",
        ),
    },
    facts={
        "seen by": Fact("the thread-local symbol __rseq_abi of libc; cpu_id >= 0", f"{_ADDED} manual/threads.texi"),
        "area": Fact("static TLS of libc, 32 bytes, one for each namespace's libc", f"{_ADDED} rseq-sym.c"),
        "main thread": Fact("registered in __libc_early_init(), before any constructor", f"{_ADDED} libc_early_init.c"),
        "failure": Fact(
            "cpu_id RSEQ_CPU_ID_REGISTRATION_FAILED after ENOSYS, EPERM, EACCES; fatal after EBUSY, EINVAL, EFAULT",
            f"{_ADDED} rseq-internal.h",
        ),
        "thread exit": Fact(
            "left to the kernel (the commit's message says otherwise)", f"{_ADDED} nptl/pthread_create.c"
        ),
        "a library may": Fact(
            "register where cpu_id is RSEQ_CPU_ID_UNINITIALIZED; earlier than libc that kills the process",
            f"{_ADDED} manual/threads.texi, rseq-internal.h",
        ),
        "switched off by": Fact("nothing", f"{_ADDED} rseq-internal.h"),
        **_SYMBOL_FACTS,
    },
)

# --- __rseq_offset, an area of ld.so's

_AREA_RULES_AFTER = {landmarks.THREAD_POINTER: (REGISTRATION,)}
_AREA_RULES = {REGISTRATION: replace(RULES[REGISTRATION], apply=_yields)}
_AREA_FACTS = {
    "seen by": Fact(
        "__rseq_offset from the thread pointer, if __rseq_size > 0; cpu_id >= 0", "glibc commit c901c3e764d7"
    ),
    "main thread": Fact(
        "registered where the thread pointer is set, before audit modules and relocation", "glibc commit 95e114a0919d"
    ),
    "failure": Fact(
        "__rseq_size 0 and cpu_id RSEQ_CPU_ID_REGISTRATION_FAILED; fatal in a thread whose creator was registered",
        "glibc commits c901c3e764d7, a41c8e92350e",
    ),
    "thread exit": Fact("left to the kernel", "glibc commit 95e114a0919d"),
    "a library may": Fact("register where __rseq_size is 0", "glibc manual, Restartable Sequences"),
    "switched off by": Fact("GLIBC_TUNABLES=glibc.pthread.rseq=0", "glibc commit e3e589829d16"),
}
_EXTENSIBLE_AREA = Fact(
    "a block of its own in static TLS ('extra TLS'): negative __rseq_offset on x86, another for each set of libraries; "
    "as long as the kernel says (AT_RSEQ_FEATURE_SIZE), 32 bytes at least",
    "glibc commits 304221775cd3, 93d0bfbe8ffa",
)
_EXTENSIBLE_SIZE = Fact("what the kernel fills: 20, 28 on Linux 6.3", "glibc commits 2e456ccf0c34, 93d0bfbe8ffa")

AREA_2_35 = Design(
    name="area-2.35",
    summary="glibc 2.35 to 2.40: an area in struct pthread, found by __rseq_offset, registered with the thread pointer",
    registers=True,
    static_thread_pointer_first=False,
    tunable=True,
    area=BEHIND,
    audit_binds_lazily=False,
    rules_after=_AREA_RULES_AFTER,
    static_rules_after=_AREA_RULES_AFTER,
    rules=_AREA_RULES,
    facts={
        **_AREA_FACTS,
        "area": Fact("struct pthread: positive __rseq_offset on x86, fixed for a libc; 32 bytes", "glibc nptl/descr.h"),
        "__rseq_size": Fact("32; 20 from 2.40 and where that was backported", "glibc commit 2e456ccf0c34, bug 31965"),
        "static program": Fact("resolvers run before the thread pointer is set", "glibc csu/libc-start.c"),
    },
)
EXTENSIBLE_2_41 = Design(
    name="extensible-2.41",
    summary="glibc 2.41 to 2.43: the area is a block of its own in static TLS, as long as the kernel's features",
    registers=True,
    static_thread_pointer_first=False,
    tunable=True,
    area=BEFORE,
    audit_binds_lazily=False,
    rules_after=_AREA_RULES_AFTER,
    static_rules_after=_AREA_RULES_AFTER,
    rules=_AREA_RULES,
    facts={**AREA_2_35.facts, "area": _EXTENSIBLE_AREA, "__rseq_size": _EXTENSIBLE_SIZE},
)
EXTENSIBLE_2_44 = replace(
    EXTENSIBLE_2_41,
    name="extensible-2.44",
    summary="glibc 2.44: a static program sets its thread pointer, and registers, before its resolvers run",
    static_thread_pointer_first=True,
    facts={
        **EXTENSIBLE_2_41.facts,
        "static program": Fact(
            "thread pointer, registration and stack protector come before resolvers",
            "glibc commit b75ad99d45b7, bugs 20680, 27582, 28817",
        ),
        "resolvers of an object": Fact(
            "run after all other relocations of the object, so that they can call through its PLT",
            "glibc commit 63b31c05a8a9, bug 28218",
        ),
    },
)
NONE = Design(
    name="none",
    skips=("area",),
    summary="glibc 2.31 to 2.34: libc does not use rseq",
    registers=False,
    static_thread_pointer_first=False,
    tunable=False,
    area=NOWHERE,
    audit_binds_lazily=True,
    rules_after=_AREA_RULES_AFTER,
    static_rules_after=_AREA_RULES_AFTER,
    rules=_AREA_RULES,
    words={
        landmarks.EARLY_INITIALIZATION: Words(
            "libc initializes itself before any constructor: in 2.32 and later in __libc_early_init()",
            "glibc csu/init-first.c; elf/libc_early_init.c, commit ec935dea6332 (2.32)",
        ),
    },
    facts={
        "seen by": Fact("nothing: each library has an area of its own", "rseq(2)"),
        "area": Fact("none", "glibc before 2.35"),
        "main thread": Fact("never registered by libc", "glibc before 2.35"),
        "thread exit": Fact("left to the kernel, or to the library that registered", "Linux kernel/exit.c do_exit"),
        "a library may": Fact("register; a second one gets EINVAL or EBUSY", "rseq(2)"),
        "switched off by": Fact("nothing", "glibc before 2.35"),
        "static program": AREA_2_35.facts["static program"],
    },
)

DESIGNS: dict[str, Design] = {
    design.name: design for design in (NONE, HANDLED_2019, ABI_2020, AREA_2_35, EXTENSIBLE_2_41, EXTENSIBLE_2_44)
}


def design_of(offset: int | None, static_thread_pointer_first: bool | None) -> Design:
    """Return the design that a libc has, by what experiments found in it.

    offset: __rseq_offset, in bytes from the thread pointer; None where the libc has none.
    static_thread_pointer_first: whether a static program has its thread pointer before IRELATIVE relocations are
    applied; None where that is unknown, which leaves the older of two designs.
    """
    if offset is None:
        return NONE
    if offset > 0:
        return AREA_2_35
    return EXTENSIBLE_2_44 if static_thread_pointer_first else EXTENSIBLE_2_41
