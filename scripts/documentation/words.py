"""What the lists in docs/ say beside what the code says. lists.py raises where a key is missing or left over."""

from __future__ import annotations

LINKS = {
    "dynamic-lazy": "linked against shared libraries; a function is bound at its first call (`-z lazy`)",
    "dynamic-now": "linked against shared libraries; every function is bound while the caller is relocated (`-z now`)",
    "static": "no dynamic linker; the program is at a fixed address",
    "static-pie": "no dynamic linker; the program relocates itself, to an address that the kernel chooses",
}

PHASES_OF_A_LIFE = {
    "loading": "ld.so loads audit libraries and maps the objects",
    "relocation": "addresses are filled into the objects; IFUNC resolvers run",
    "early initialization": "before the first constructor",
    "initialization": "constructors run",
    "main": "`main()` has begun",
    "exit": "`exit()` or `quick_exit()` calls handlers",
    "termination": "destructors run",
    "binding": "at the first call of a function that is bound lazily, else during relocation",
}

ALLOWANCES = {
    "raw": "system calls that the code makes itself: no libc, no TLS, no GOT or PLT",
    "relocated": "its own variables and functions too: the object is relocated",
    "libc": "functions of libc too; in a signal handler those that are async-signal-safe",
}

ENVIRONMENTS = {
    "default": "",
    "tunable-off": "Unregistered, and a library can see it.",
    "self-registered": "*hidden*: `__rseq_size` is libc's and tells nothing of areas that others register.",
    "seccomp-enosys": "Unregistered.",
    "seccomp-eperm": "Unregistered.",
    "seccomp-late": "Registered threads stay registered. The next thread ends the process: "
    "`Fatal glibc error: rseq registration failed`.",
    "seccomp-kill": "SIGSYS before `main()`.",
    "seccomp-fake": "glibc believes the answer: `__rseq_size` is positive and `cpu_id` stays -1. A library that reads "
    "the size alone is wrong.",
    "gvisor": "rseq(2) is answered with ENOSYS.",
    "valgrind": "rseq(2) is answered with ENOSYS.",
    "gdb": "As `default`. It has two stages of its own: single-stepping through a critical section aborts it each "
    "time; continuing over a breakpoint inside a section commits it, unprotected, though the thread was stopped there.",
    "qemu-user": "rseq(2) is answered with ENOSYS. It does not follow an `execve()`: the new program is registered.",
    "secure": "The tunable is ignored: as `default`. Without root the program has a file capability, with root it is "
    "set-group-id; it runs in a mount namespace of its own.",
    "strace": "As `default`.",
    "static-tls-tight": "As `default`, but `dlmopen()` fails, because a new libc needs static TLS.",
    "ptrace-singlestep": "Registered, and no critical section ends: every operation takes the fallback.",
}

SCENARIOS = {
    "audited": "a program under an audit library",
    "audited_calls": "the same, with the hooks that see calls through the PLT",
    "life": "from the first relocation to the last destructor, with a preloaded object, and libraries that are needed, "
    "opened, and loaded into a new namespace",
    "allocating": "the `malloc()` of a preloaded object, called as early as it can be",
    "quick_exit": "`quick_exit()`",
    "threads": "POSIX threads, from the start routine to the last key destructor",
    "main_exit": "a thread that outlives the main thread",
    "signals": "signal handlers, in every place where one can run",
    "children": "`fork`, `vfork`, `clone(CLONE_VM)`, raw threads, a coroutine",
    "exec": "two programs, one after the other, by `execve()`",
    "unregister": "a raw unregistration of libc's area",
    "debugged": "a critical section that gdb single-steps through, and one with a breakpoint inside",
}

FACTS_OF_A_CLASS = {
    "registered": ("yes", "yes", "yes"),
    "unregistered": ("yes", "no", "no"),
    "blind": ("no", "", ""),
    "hidden": ("yes", "yes", "no"),
    "stale": ("yes", "no", "yes"),
    "dead": ("yes", "yes", "yes"),
}

RESULTS = {
    "PASS": "what was observed is what the model expects",
    "FAIL": "it differs; the reason says what was got, what was wanted, and why that was wanted",
    "XFAIL": "the process has to end before its time in this cell, and did so in the way that was expected",
    "XPASS": "the process had to end before its time, and did not",
    "UNSUPPORTED": "the cell cannot be had here; the reason says what is missing",
    "ERROR": "it could not be observed: a crash, a hang, a missing record, or two oracles that disagree",
}

EXIT_CODES = {
    0: "all is as expected",
    1: "something differs from the expectation, or is wrong with what was examined",
    2: "the command line is wrong",
    3: "a tool or a feature of this machine is missing; the message names the package to install",
    4: "a file, process or program that was named cannot be used",
    5: "interrupted; what was finished is kept",
}

PHASES_OF_VERIFY = {
    "stages": (
        "At every stage of the matrix, 2000 adds (`--adds`), in the process that adds at all other stages too. The "
        "tracer single-steps the first and the last of them.",
        "Nothing is lost or doubled. A critical section that commits where the kernel protects nothing is a defect by "
        "that fact alone: no race has to be seen.",
    ),
    "interruptions": (
        "At every instruction of every critical section: a signal, a migration to another CPU, a preemption by a "
        "thread that does the same operation, an RSEQ membarrier from another CPU. At instructions around the "
        "sections: the same.",
        "Each operation took effect exactly once.",
    ),
    "stepping": (
        "A tracer single-steps whole operations.",
        "They end. Each step aborts the section, so a library has to give up and take its fallback.",
    ),
    "gdb": ("The same with gdb: `stepi` until the operation is done.", "They end."),
    "stress": (
        "Threads that are registered and threads that are not, `vfork` and `fork` children on the same memory, storms "
        "of signals, forced migrations, threads that start and end. With rseq, with `glibc.pthread.rseq=0`, and with "
        "half of the threads registered by the subject.",
        "The sums are exact.",
    ),
    "history": (
        "Pushes and pops of a subject that has stacks, with the time of each.",
        "Each stack is last in, first out: the history is linearizable.",
    ),
}

FINDINGS = {
    "area-unmapped": "the memory of a registered area has been unmapped: the kernel will end the process",
    "filter-fakes": "a filter answers success to rseq(2) and nothing is registered",
    "filter-kills": "a filter ended the program because it called rseq(2)",
    "filter-refuses": "a filter refuses rseq(2) from the start",
    "filter-unread": "the filters of a running process could not be read; that needs root",
    "ids-overwritten": "something but the kernel writes to the fields that hold the CPU number",
    "kernel-changed-only": "the kernel writes the CPU number only when it changes, which breaks tcmalloc's caches",
    "kernel-without-rseq": "the kernel has no rseq(2)",
    "libc-without-rseq": "this libc registers nothing",
    "membarrier-does-not-abort": "membarrier(2) does not abort critical sections on other CPUs",
    "off-unexplained": "libc has not registered, and neither a tunable nor a filter explains it",
    "own-registration": "an area that is not libc's is registered, and a library did that on purpose",
    "owner-disagrees": "libc says that it has registered its area, and the kernel has another",
    "program-died": "the program was ended by a signal",
    "registration-dead": "registered, but the CPU number does not follow the thread",
    "registration-gone": "libc believes that it has registered, and the kernel has nothing any more",
    "registration-stale": "it looks registered, and the kernel has nothing",
    "static-tls-full": "the thread-local variables of a library no longer fit into static TLS",
    "threads-differ": "some threads are registered and others are not",
    "threads-killed": "glibc ended the program because a new thread could not be registered",
    "threads-will-be-fooled": "a filter was installed that will answer success to the next thread and register nothing",
    "threads-will-be-killed": "a filter was installed that will make glibc end the process at its next thread",
    "tunable-ignored": "GLIBC_TUNABLES asks for something that had no effect",
    "tunable-off": "rseq is switched off by GLIBC_TUNABLES",
}

TOP = {
    "preload": "C: one file for each stage that runs in a preloaded object",
    "auditlib": "C: one file for each hook of an audit library",
    "ifunc": "C: one file for each IFUNC resolver",
    "csrc": "C: the registry of stages, the probe, and everything that is built against the libc of a cell",
    "scripts": "the two commands, and the Python package that they run",
    "pytests": "the tests",
    "docs": "these pages",
}
"""The folders of the tree."""

C_FOLDERS = {
    "arch": "what differs between machines: the system call, the thread pointer, critical sections",
    "detect": "experiments about a libc or an environment, for the model",
    "detect/offers": "what a libc may lack: each program fails where it does",
    "doctor": "experiments on the kernel and on a process; each line that they print is a fact",
    "environment": "the last step into an environment: filters, a secure program, single-stepping",
    "explain": "calls of rseq(2) in a child, and a thread behind a filter",
    "host": "the programs of the scenarios, which bring their stages about",
    "library": "the shared objects that the programs need or open",
    "rseq": "what everything else stands on: registrations of one's own, the filter in front of rseq(2), the CPUs",
    "subject": "the built-in subjects",
    "tracer": "starts a scenario, reads the kernel's registrations, leaves no process behind",
    "verify": "the programs in which `verify` runs a subject",
}
"""The folders of csrc/."""

SCRIPT_FOLDERS = {
    "benchmarks": "the programs that measure the figures of [performance](performance.md)",
    "documentation": "writes the lists in these pages, and builds the site and the man pages",
    "rseq_matrix": "the Python package",
}
"""The folders of scripts/."""
