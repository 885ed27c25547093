"""The life of each scenario's process. The order of the steps is what the sources say; the references stand beside."""

from __future__ import annotations

from collections.abc import Callable

from rseq_matrix.model.timeline import INTERRUPTED, PASSED_OVER, Apply, Branch, Step, World, at

Steps = tuple[Step, ...]


def start(world: World, loading: Steps = (), relocation: Steps = ()) -> Steps:
    """Return the steps from execve() to the end of relocation.

    Dynamic: glibc elf/rtld.c dl_main sets up TLS, and registers, before it loads audit libraries (load_audit_modules),
    maps the rest and relocates. Static: glibc csu/libc-start.c applied IRELATIVE relocations before TLS was set up
    (static-pie: elf/dl-reloc-static-pie.c); commit b75ad99d45b7 turned that round.
    """
    set_up: Steps = (Apply("thread pointer"), Apply("area"), Apply("registration"))
    if world.dynamic:
        return (Apply("exec"), *set_up, *loading, *relocation)
    if world.static_thread_pointer_first:
        return (Apply("exec"), *set_up, *relocation)
    return (Apply("exec"), *relocation, *set_up)


def _main(world: World) -> Steps:
    """What of its environment a program brings about itself, first thing in main()."""
    own: Steps = (Apply("own registration"),) if world.environment.own_area else ()
    return (*own, Apply("late filter")) if world.environment.late_filter else own


def _thread(world: World, *steps: Step) -> Branch:
    own: Steps = (Apply("own registration"),) if world.environment.own_area else ()
    return Branch((Apply("new thread"), Apply("thread registration"), *own, *steps))


def audited(world: World) -> Steps:
    """First calls: elf/rtld.c load_audit_modules and dl_main. la_preinit: csu/libc-start.c, after all constructors."""
    loading = (
        at("audit.ifunc_resolver"),  # elf/dl-open.c: relocated, then initialized, then la_version is looked up
        at("audit.constructor"),
        at("audit.la_version"),
        at("audit.la_objopen"),  # of the executable, which the kernel mapped; so there was no search for it
        at("audit.la_activity"),
        at("audit.la_objsearch"),
    )
    lazy = world.audit_binds_lazily or not world.binds_now  # bug 15533, glibc commit 063f9ba220f4
    eagerly = () if lazy else (at("audit.la_symbind", bound="now"),)  # bug 23734, commit 32612615c58b
    return (
        *start(world, loading, eagerly),
        at("audit.la_preinit"),
        *_main(world),
        *((at("audit.la_symbind", bound="lazy"),) if lazy else ()),
        at("audit.la_objclose"),
        at("audit.destructor"),  # elf/dl-fini.c: audit namespaces last
    )


def audited_calls(world: World) -> Steps:
    """An audit library with these hooks makes binding lazy, whatever the link says: elf/dl-reloc.c."""
    return (*start(world), *_main(world), at("audit.la_pltenter"), at("audit.la_pltexit"))


def life(world: World) -> Steps:
    """Relocation and constructors go from the last object of elf/dl-deps.c's order to the first, destructors back.

    That order is executable, preloaded object, needed library. musl calls constructors of what an object depends on
    before its own, and in the order in which they were loaded: ldso/dynlink.c queue_ctors.
    """
    relocation = (
        at("ifunc.interposed", relocated=False),  # the needed library's turn, before the preloaded object's
        at("ifunc.library", "ifunc.preload", only="now", relocated=True),
        at("ifunc.executable"),  # bug 30976: IRELATIVE comes last
    )
    preloaded = (at("preload.init"), at("preload.constructor"))
    needed = (at("library.constructor"),)
    return (
        *start(world, (), relocation),
        at("executable.preinit_array"),
        *(preloaded + needed if world.preloaded_first else needed + preloaded),
        at("executable.constructor"),
        *_main(world),
        at("executable.main"),
        at("ifunc.library", only="lazy", relocated=True),
        at("ifunc.preload", only="lazy", relocated=True),
        at("preload.interposed_function", creates=True),
        at("ifunc.dlopen"),
        at("library.dlopen_constructor"),
        at("library.dlclose_destructor"),
        at("library.dlmopen_constructor"),
        at("executable.on_exit"),  # stdlib/exit.c: the last one registered first
        at("executable.atexit"),
        at("executable.destructor"),
        at("preload.destructor"),
        at("preload.fini"),  # elf/dl-fini.c: DT_FINI after DT_FINI_ARRAY
    )


def allocating(world: World) -> Steps:
    """The first malloc() after relocation (elf/dl-minimal.c __rtld_malloc_init_real), whoever calls it."""
    return (*start(world), at("preload.malloc"))


def quick_exit(world: World) -> Steps:
    """stdlib/quick_exit.c: the handlers, then _exit()."""
    return (*start(world), *_main(world), at("executable.quick_exit"))


def threads(world: World) -> Steps:
    """nptl/pthread_create.c start_thread: cleanup handlers, then thread_local objects, then keys in rounds."""
    return (
        *start(world),
        *_main(world),
        _thread(world, at("thread.start")),
        _thread(world, at("thread.recycled_stack")),
        _thread(world, at("thread.cleanup_handler")),
        _thread(world, at("thread.cancelled")),
        _thread(world, at("thread.tls_destructor")),
        _thread(world, at("thread.detached")),
        _thread(world, at("thread.key_destructor"), at("thread.key_destructor_last_round")),
    )


def main_exit(world: World) -> Steps:
    """The main thread is gone, the process goes on."""
    return (*start(world), *_main(world), _thread(world, at("thread.after_main_exit")))


def signals(world: World) -> Steps:
    """A handler runs in the state of the code that it interrupts; a section is aborted first (kernel/rseq.c)."""
    return (
        *start(world, (), (at("signal.ifunc_resolver"),)),
        at("signal.constructor"),
        *_main(world),
        at("signal.main"),
        at("signal.alternate_stack"),
        _thread(world, at("signal.thread")),
        _thread(world, at("signal.key_destructor")),
        at("signal.critical_section", section=INTERRUPTED),
    )


def children(world: World) -> Steps:
    """Tasks that are not POSIX threads, and a coroutine that changes threads (its thread pointer is the thread's)."""
    return (
        *start(world),
        *_main(world),
        Branch((Apply("fork"), at("process.fork_child"))),
        Branch((Apply("fork"), at("process.atfork_child"))),
        Branch((Apply("shared-memory clone"), at("process.vfork_child"))),
        Branch((Apply("shared-memory clone"), at("process.clone_vm_child"))),
        Branch((Apply("initialized TLS block"), at("process.clone_thread"))),
        Branch((Apply("zeroed TLS block"), at("process.clone_thread_zeroed"))),
        _thread(world, at("process.coroutine")),
    )


def exec_(world: World) -> Steps:
    """One process, two images."""
    image = start(world, (), (at("ifunc.after_exec"),))
    return (*start(world), *_main(world), *image, *_main(world), at("process.exec"))


def unregister(world: World) -> Steps:
    """The raw unregistration that a library may attempt."""
    return (*start(world), *_main(world), Apply("unregistration"), at("process.after_unregister"))


def debugged(world: World) -> Steps:
    """A stop aborts the section that it is in (kernel/rseq.c), but not where gdb executes the instruction elsewhere.

    gdb gdb/infrun.c displaced_step_prepare; the kernel clears rseq_cs when it finds the thread outside of the section.
    """
    return (
        *start(world),
        *_main(world),
        at("debugger.single_step", section=INTERRUPTED),
        at("debugger.breakpoint", section=PASSED_OVER),
    )


LIVES: dict[str, Callable[[World], Steps]] = {
    "audited": audited,
    "audited_calls": audited_calls,
    "life": life,
    "allocating": allocating,
    "quick_exit": quick_exit,
    "threads": threads,
    "main_exit": main_exit,
    "signals": signals,
    "children": children,
    "exec": exec_,
    "unregister": unregister,
    "debugged": debugged,
}
