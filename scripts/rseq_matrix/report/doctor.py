"""What `doctor` prints, rendered from its document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rseq_matrix.documents.doctor import (
    CHANGED_ONLY,
    COMMAND,
    EARLY,
    END,
    ENTRY,
    GLIBC,
    HOST,
    LATE,
    LEGACY,
    NONE,
    NOTE,
    OTHER,
    PRESENT,
    PROCESS,
    SUCCESS,
    TUNABLE,
    UNKNOWN,
    V2,
    DoctorFinding,
    Examination,
    ExaminedLibc,
    ExaminedThread,
    FilterAnswer,
    KernelBehaviour,
    LengthBehaviour,
    ProgramRun,
    TunableSetting,
    errno_name,
)
from rseq_matrix.report.explain import show_kernel_table
from rseq_matrix.report.findings import SEVERITY_STYLES, clean

SHOWN_THREADS, SHOWN_FINDINGS = 4, 3
CLASSES = {
    LEGACY: "writes a thread's CPU number at every context switch and signal",
    CHANGED_ONLY: "writes a thread's CPU number only when it changes",
    V2: "writes a thread's CPU number only when it changes, and kills a program that overwrites it (in areas longer "
    "than 32 bytes)",
}
OWNERS = {
    GLIBC: "registered by glibc",
    OTHER: "registered by other code",
    NONE: "not registered",
    UNKNOWN: "registered, by which code is not known",
}
INTRODUCTION = (
    "rseq (restartable sequences): a thread registers a small area of its memory (rseq area) with the kernel. The "
    "kernel writes the number of the CPU that the thread runs on there, and restarts a short piece of code (critical "
    "section) in which the thread is interrupted."
)
ACTIONS = {
    "kill": "kills the program",
    "kill-thread": "kills the thread",
    "trap": "raises SIGSYS",
    "notify": "is left to another process, a supervisor",
    "trace": "fails with ENOSYS, unless a tracer handles it",
    "log": "is allowed and logged",
    "allow": "is allowed",
}
"""What rseq(2) does under filters, by seccomp(2)'s SECCOMP_RET_…; errno is worded with its number."""
FAKED = "returns success without being executed"
MOMENTS = {
    ENTRY: "stopped where its own code begins; --run follows it to its end",
    EARLY: "stopped while it started; --run follows it to its end",
    END: "followed to its end",
    LATE: "followed until the time limit, then killed",
}


def _kernel_lines(kernel: KernelBehaviour) -> Iterator[tuple[str, str]]:
    present = kernel.rseq == PRESENT
    size = f" (rseq feature size {kernel.feature_size} bytes)" if kernel.feature_size else ""
    yield "kernel", f"Linux {kernel.release}: {f'has rseq{size}' if present else _no_rseq(kernel)}"
    if not present:
        return
    if kernel.class_:
        yield "", f"class {kernel.class_}: {CLASSES[kernel.class_]}"
    barrier = kernel.membarrier
    aborts = {True: "yes", False: "NO", None: "offered, not tested" if barrier.offered else "not offered"}
    yield "", f"membarrier(2) restarts critical sections on other CPUs: {aborts[barrier.aborts]}"
    lengths = kernel.slice_extension.lengths
    yield "", f"time slice extension: {f'for areas of {_numbers(lengths)} bytes' if lengths else 'no'}"


def _no_rseq(kernel: KernelBehaviour) -> str:
    if kernel.rseq == SUCCESS:
        return "rseq(2) returns success, but does not reach the kernel"
    return f"rseq(2) fails with {kernel.rseq}"


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _libc_lines(libc: ExaminedLibc) -> Iterator[tuple[str, str]]:
    if libc.version:
        package = f" ({libc.package})" if libc.package else ""
        yield "libc", f"glibc {libc.version}{package}"
    if libc.size is None:
        yield "" if libc.version else "libc", "has no rseq support"
        return
    state = "registers an rseq area for each thread" if libc.size else "registers no rseq area"
    yield "" if libc.version else "libc", f"{state} (__rseq_size {libc.size})"
    tunable = libc.tunable
    if tunable:
        yield "", f"GLIBC_TUNABLES: {_tunable(tunable)}"


def _tunable(tunable: TunableSetting) -> str:
    if not tunable.text:
        return "not set"
    force = {True: "in effect", False: "no effect on rseq", None: f"does not set {TUNABLE}"}[tunable.in_force]
    return f"'{tunable.text}', {force}"


def _thread_line(thread: ExaminedThread, where: bool) -> str:
    if thread.created is False:
        return "could not be created"
    words = OWNERS[thread.owner]
    if thread.owner == UNKNOWN and not thread.length:
        return "registration not known"
    if thread.owner == OTHER and thread.object:
        words += f" (area in {thread.object})"
    if thread.length:
        words += f", {thread.length} bytes"
    if thread.address and where:
        words += f" at {thread.address:#x}, signature {thread.signature:#x}"
    follows = {True: "; CPU number updated on migration", False: "; CPU number NOT updated on migration", None: ""}
    return words + follows[thread.follows]


def _thread_lines(threads: Sequence[ExaminedThread], where: bool) -> Iterator[tuple[str, str]]:
    groups: dict[tuple[object, ...], list[ExaminedThread]] = {}
    for thread in threads:
        alone = (thread.owner, thread.object, thread.length, thread.follows, thread.created)
        groups.setdefault((*alone, thread.tid if len(threads) <= SHOWN_THREADS else None), []).append(thread)
    for alike in groups.values():
        name = alike[0].name if len(alike) == 1 else f"{len(alike)} threads"
        yield name.replace("a second thread", "2nd thread"), _thread_line(alike[0], where and len(alike) == 1)


def _run_lines(document: Examination) -> Iterator[tuple[str, str]]:
    run, process = document.run, document.process
    if process:
        number = f", process {process.pid}" if process.pid else ""
        yield "program", f"{process.program}{number}"
    if run and document.kind == COMMAND:
        end = f" ({run.killed_by})" if run.killed_by else ""
        status = f", exit status {run.exit_status}" if run.exit_status is not None else ""
        yield "", f"{MOMENTS[run.moment]}{end}{status}"
        yield from _children_lines(run)
    seccomp = document.seccomp
    if seccomp and seccomp.filters:
        where = f" for {seccomp.thread}" if seccomp.thread else ""
        says = f"; rseq(2) {_action(seccomp.rseq)}" if seccomp.rseq else ""
        yield "filters", f"{seccomp.filters} seccomp filter{'s' * (seccomp.filters != 1)} installed{where}{says}"


def _children_lines(run: ProgramRun) -> Iterator[tuple[str, str]]:
    if run.children:
        count = f"{run.children} other process{'es' * (run.children != 1)}"
        left = (
            f"; {run.left} still ran when it had ended, and {'were' if run.left > 1 else 'was'} killed"
            if run.left
            else ""
        )
        yield "", f"it started {count} (not examined){left}"
    if run.left:
        yield "", "to examine them, start the program in the foreground, or use --process"


def _action(answer: FilterAnswer) -> str:
    """Return what rseq(2) does under filters."""
    if answer.action == "errno":
        return f"fails with {errno_name(answer.errno)}" if answer.errno else FAKED
    return ACTIONS[answer.action]


def _registration(found: LengthBehaviour) -> str:
    """Return how the registration of a length ended."""
    if found.answer is None:
        return "registration not tried"
    if found.answer:
        return f"registration fails with {errno_name(found.answer)}"
    return "registered" if found.registered else f"registration {FAKED}"


def _verbose_lines(document: Examination) -> Iterator[tuple[str, str]]:
    libc = document.libc
    if libc and libc.size is not None:
        where = f"{libc.offset:+d} from the thread pointer"
        yield "area", f"__rseq_offset {where}, __rseq_size {libc.size}, __rseq_flags {libc.flags}"
    for found in document.kernel.registrations if document.kernel else ():
        events = ", ".join(f"after {name}: {what or 'not tried'}" for name, what in vars(found.events).items())
        yield f"{found.length} bytes", f"{_registration(found)}; an overwritten CPU number {events}"
    yield "watched" if document.watched else "not watched", "stores to the CPU number (by a debug register)"
    if document.untraced:
        yield "", document.untraced
    for word in document.run.last_words if document.run and document.kind != HOST else ():
        yield "output", word


def _findings(console: Console, found: Sequence[DoctorFinding], verbose: bool) -> None:
    shown = found if verbose else found[:SHOWN_FINDINGS]
    for one in shown:
        head = (f"{one.severity} {one.id}", SEVERITY_STYLES[one.severity])
        console.print(Text.assemble(head), highlight=False)
        said = Text(clean(one.sentence) + ".")
        if one.severity != NOTE or verbose:
            said.append(f" What to do: {clean(one.advice)}.", style="bold")
        console.print(Padding(said, (0, 0, 0, 2)), highlight=False)
        if verbose:
            console.print(Padding(Text(f"[{one.reference}]", style="dim"), (0, 0, 0, 2)), highlight=False)
    if len(found) > len(shown):
        console.print(f"and {len(found) - len(shown)} more: --verbose", highlight=False)


def show_doctor(console: Console, document: Examination, verbose: bool = False) -> None:
    """Print what was found."""
    if not document.verdict.healthy or verbose:
        console.print(Text(INTRODUCTION, style="dim"), highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    lines = [*(_kernel_lines(document.kernel) if document.kernel else ())]
    lines += _run_lines(document)
    lines += _libc_lines(document.libc) if document.libc else ()
    lines += _thread_lines(document.threads, verbose or document.kind == PROCESS)
    lines += _verbose_lines(document) if verbose else ()
    for name, words in lines:
        table.add_row(name, Text(clean(words)))
    console.print(table, highlight=False)
    style = "bold green" if document.verdict.healthy else "bold red"
    console.print(Text(document.verdict.sentence, style=style), highlight=False)
    _findings(console, document.findings, verbose)
    answers = document.kernel.answers if document.kernel else None
    if verbose and answers:
        console.print("\nwhat this kernel answers to rseq(2), and why", style="bold", highlight=False)
        show_kernel_table(console, answers)
