"""What `doctor` says on one screen, rendered from a document of schema doctor-1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rseq_matrix.doctor.findings.questions import errno_name
from rseq_matrix.doctor.libc import TUNABLE
from rseq_matrix.report.explain import show_kernel_table
from rseq_matrix.report.findings import SEVERITY_STYLES, clean

Document = dict[str, Any]

SHOWN_THREADS, SHOWN_FINDINGS = 4, 3
CLASSES = {
    "legacy": "writes a thread's CPU number anew at every switch and signal",
    "changed-only": "writes a thread's CPU number only when it changes",
    "v2": "writes a thread's CPU number only when it changes, and kills a program that overwrites it (in areas longer "
    "than 32 bytes)",
}
OWNERS = {
    "glibc": "registered by glibc",
    "other": "registered by other code",
    "none": "registered by nobody",
    "unknown": "registered, by whom is not known",
}
INTRODUCTION = (
    "rseq (restartable sequences): the kernel keeps the number of the CPU that a thread runs on in a small area of the "
    "thread's memory, and restarts short pieces of code that are interrupted there."
)
ACTIONS = {
    "kill": "answered by killing the program",
    "kill-thread": "answered by killing the thread",
    "trap": "answered with the signal SIGSYS",
    "notify": "for another process, a supervisor, to decide",
    "trace": "refused, unless a tracer decides",
    "log": "allowed and logged",
    "allow": "allowed",
}
"""What filters do with rseq(2), by seccomp(2)'s SECCOMP_RET_…; errno is worded with its number."""
MOMENTS = {
    "entry": "held before its own code; --run follows it to its end",
    "tls": "held early in its start; --run follows it to its end",
    "end": "followed to its end",
    "time limit": "followed until the time was up, then ended",
}


def _kernel_lines(kernel: Document) -> Iterator[tuple[str, str]]:
    present = kernel["rseq"] == "present"
    rseq = "has rseq" if present else f"the call of rseq is answered with {kernel['rseq']}"
    size = f", uses {kernel['feature_size']} bytes of an area" if kernel["feature_size"] and present else ""
    yield "kernel", f"Linux {kernel['release']}: {rseq}{size}"
    if not present:
        return
    if kernel["class"]:
        yield "", f"{CLASSES[kernel['class']]} ({kernel['class']})"
    barrier = kernel["membarrier"]
    aborts = {True: "works", False: "does NOT work", None: "is offered" if barrier["offered"] else "is missing"}
    slices = kernel["slice_extension"]["lengths"]
    more = f"for areas of {', '.join(map(str, slices))} bytes" if slices else "no"
    yield "", f"restarting code on other CPUs (membarrier) {aborts[barrier['aborts']]}; longer time slices: {more}"


def _libc_lines(libc: Document) -> Iterator[tuple[str, str]]:
    if libc["version"]:
        package = f" ({libc['package']})" if libc["package"] else ""
        yield "libc", f"glibc {libc['version']}{package}"
    if libc["size"] is None:
        yield "" if libc["version"] else "libc", "does not know rseq"
        return
    state = f"registers rseq areas, with {libc['size']} bytes for use" if libc["size"] else "does not register rseq"
    yield "" if libc["version"] else "libc", state
    tunable = libc["tunable"]
    if tunable:
        yield "", f"setting GLIBC_TUNABLES: {_tunable(tunable)}"


def _tunable(tunable: Document) -> str:
    if not tunable["text"]:
        return "none"
    force = {True: "in force", False: "without effect on rseq", None: f"does not set {TUNABLE}"}[tunable["in_force"]]
    return f"'{tunable['text']}', {force}"


def _thread_line(thread: Document, where: bool) -> str:
    if thread["created"] is False:
        return "could not be started"
    words = OWNERS[thread["owner"]]
    if thread["owner"] == "unknown" and not thread["length"]:
        return "whether it is registered is not known"
    if thread["owner"] == "other" and thread["object"]:
        words += f" (area in {thread['object']})"
    if thread["length"]:
        words += f", {thread['length']} bytes"
    if thread["address"] and where:
        words += f" at {thread['address']:#x}, signature {thread['signature']:#x}"
    follows = {True: "; its CPU number follows it", False: "; its CPU number does NOT follow it", None: ""}
    return words + follows[thread["follows"]]


def _thread_lines(threads: Sequence[Document], where: bool) -> Iterator[tuple[str, str]]:
    groups: dict[tuple[Any, ...], list[Document]] = {}
    for thread in threads:
        alone = (thread["owner"], thread["object"], thread["length"], thread["follows"], thread["created"])
        groups.setdefault((*alone, thread["tid"] if len(threads) <= SHOWN_THREADS else None), []).append(thread)
    for alike in groups.values():
        name = alike[0]["name"] if len(alike) == 1 else f"{len(alike)} threads"
        yield name.replace("a second thread", "2nd thread"), _thread_line(alike[0], where and len(alike) == 1)


def _run_lines(document: Document) -> Iterator[tuple[str, str]]:
    run, process = document["run"], document["process"]
    if process:
        number = f", process {process['pid']}" if process["pid"] else ""
        yield "program", f"{process['program']}{number}"
    if run and document["kind"] == "command":
        end = f" ({run['killed_by']})" if run["killed_by"] else ""
        status = f", exit status {run['exit_status']}" if run["exit_status"] is not None else ""
        yield "", f"{MOMENTS[run['moment']]}{end}{status}"
        yield from _children_lines(run)
    seccomp = document["seccomp"]
    if seccomp and seccomp["filters"]:
        where = f" for {seccomp['thread']}" if seccomp["thread"] else ""
        says = f"; rseq is {_action(seccomp['rseq'])}" if seccomp["rseq"] else ""
        yield "filters", f"{seccomp['filters']} seccomp filter{'s' * (seccomp['filters'] != 1)} in force{where}{says}"


def _children_lines(run: Document) -> Iterator[tuple[str, str]]:
    if run["children"]:
        count = f"{run['children']} other process{'es' * (run['children'] != 1)}"
        left = f"; {run['left']} went on behind it, and ended with this" if run["left"] else ""
        yield "", f"it started {count}, not looked at{left}"
    if run["left"]:
        yield "", "start it in the foreground, or look at what goes on with --process"


def _action(answer: Document) -> str:
    """Return what filters do with rseq(2)."""
    if answer["action"] == "errno":
        return f"refused with {errno_name(answer['errno'])}" if answer["errno"] else "answered 'success', and not done"
    return ACTIONS[answer["action"]]


def _registration(found: Document) -> str:
    """Return what became of the registration of a length in the experiment."""
    if found["answer"] is None:
        return "not tried"
    if found["answer"]:
        return f"refused with {errno_name(found['answer'])}"
    return "registered" if found["registered"] else "answered 'success', and not done"


def _verbose_lines(document: Document) -> Iterator[tuple[str, str]]:
    libc = document["libc"]
    if libc and libc["size"] is not None:
        where = f"{libc['offset']:+d} bytes from the thread pointer (__rseq_offset)"
        yield "area", f"{where}, __rseq_size {libc['size']}, __rseq_flags {libc['flags']}"
    for found in (document["kernel"] or {}).get("registrations", []):
        events = ", ".join(f"{name} {what or 'not tried'}" for name, what in found["events"].items())
        yield f"{found['length']} bytes", f"{_registration(found)}; its CPU number overwritten, then: {events}"
    watched = (
        "yes: who but the kernel writes the CPU number" if document["watched"] else "no: a writer was not looked for"
    )
    yield "watched", watched
    if document["untraced"]:
        yield "", document["untraced"]
    for word in (document["run"] or {}).get("last_words", []) if document["kind"] != "host" else []:
        yield "last words", word


def _findings(console: Console, found: Sequence[Document], verbose: bool) -> None:
    shown = found if verbose else found[:SHOWN_FINDINGS]
    for one in shown:
        head = (f"{one['severity']} {one['id']}", SEVERITY_STYLES[one["severity"]])
        console.print(Text.assemble(head), highlight=False)
        said = Text(clean(one["sentence"]) + ".")
        if one["severity"] != "note" or verbose:
            said.append(f" What to do: {clean(one['advice'])}.", style="bold")
        console.print(Padding(said, (0, 0, 0, 2)), highlight=False)
        if verbose:
            console.print(Padding(Text(f"[{one['reference']}]", style="dim"), (0, 0, 0, 2)), highlight=False)
    if len(found) > len(shown):
        console.print(f"and {len(found) - len(shown)} more: --verbose", highlight=False)


def show_doctor(console: Console, document: Document, verbose: bool = False) -> None:
    """Print what was found."""
    if not document["verdict"]["healthy"] or verbose:
        console.print(Text(INTRODUCTION, style="dim"), highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    lines = [*(_kernel_lines(document["kernel"]) if document["kernel"] else ())]
    lines += _run_lines(document)
    lines += _libc_lines(document["libc"]) if document["libc"] else ()
    lines += _thread_lines(document["threads"], verbose or document["kind"] == "process")
    lines += _verbose_lines(document) if verbose else ()
    for name, words in lines:
        table.add_row(name, Text(clean(words)))
    console.print(table, highlight=False)
    style = "bold green" if document["verdict"]["healthy"] else "bold red"
    console.print(Text(document["verdict"]["sentence"], style=style), highlight=False)
    _findings(console, document["findings"], verbose)
    answers = (document["kernel"] or {}).get("answers")
    if verbose and answers:
        console.print("\nwhat this kernel answers to rseq(2), and why", style="bold", highlight=False)
        show_kernel_table(console, answers)
