"""What the facts mean, in words for who has met only a crash message.

Pure: from a document to findings and a verdict.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rseq_matrix.doctor.filters import PASSING, SIGNATURE
from rseq_matrix.doctor.kernel_behaviour import CHANGED_ONLY, LEGACY, V2
from rseq_matrix.doctor.libc import TUNABLE, asked_for
from rseq_matrix.doctor.thread import GLIBC, NONE, OTHER, lost_area

Document = dict[str, Any]
Found = tuple[str, str, str, str, str]  # id, severity, sentence, what to do, reference

ERROR, WARNING, NOTE = "error", "warning", "note"
MESSAGE = "rseq registration failed"
FATAL = f"Fatal glibc error: {MESSAGE}"
TLS_MESSAGE = "cannot allocate memory in static TLS block"
OFF = f"GLIBC_TUNABLES={TUNABLE}=0"

PTHREAD_CREATE = "glibc nptl/pthread_create.c, start_thread and __pthread_create_2_1"
MANUAL = "glibc manual, Restartable Sequences"
TUNABLES = "glibc manual, POSIX Thread Tunables; elf/dl-tunables.c, __tunables_init"
GETCPU = "glibc sysdeps/unix/sysv/linux/sched_getcpu.c"
TCMALLOC = "tcmalloc docs/rseq.md, internal/percpu.cc InitThreadPerCpu"
LIBRSEQ = "librseq src/rseq.c, rseq_init"
SECCOMP = "seccomp(2); rseq(2)"
V2_RULES = "Linux Documentation/userspace-api/rseq.rst, Optimized RSEQ V2; commits 82f572449cfe, 99428157dcf3"
CHANGED_RULES = "Linux commits 566d8015f7ee (6.19) and b9eac6a9d93c (which took it back)"

WHAT_FILTER = "a list, set by a sandbox, container or service manager, of the system calls that a program may make"
ALLOW = f"allow rseq(2) in the filter (or sandbox profile), or start the program with {OFF}"
WHO_LOSES = (
    "Nothing breaks. glibc's sched_getcpu() gets slower, and libraries that use glibc's area take their slower way; "
    "librseq then registers areas of its own, and tcmalloc, which needs one of its own, can have its per-CPU caches"
)


# --- the kernel, and what stands before it


def _answer(document: Document) -> str:
    """Return what rseq(2) is answered with: "present", an errno's name, "success"; "present" where nobody asked."""
    return str(document["kernel"]["rseq"]) if document["kernel"] else "present"


def _refused(document: Document) -> Iterator[Found]:
    answer, kernel = _answer(document), document["kernel"]
    off = document["libc"] and document["libc"]["size"] == 0
    if kernel is None and off and _stopped_by_filter(document) and not _was_killed(document):
        yield (
            "filter-refuses",
            WARNING,
            "A seccomp filter that was in force when the program started refuses the system call rseq: the program has "
            f"no rseq. {WHO_LOSES.split('; ', maxsplit=1)[0]}",
            "To have rseq, allow the call in the filter (container or service sandbox profile)",
            SECCOMP,
        )
    if answer in ("present", "success") or kernel["refused_after_start"]:
        return
    has_it, filtered = bool(kernel["feature_size"]), bool((document["seccomp"] or {}).get("filters"))
    if has_it or filtered:
        proof = "the kernel announces rseq to every program" if has_it else "such a filter is in force in this shell"
        yield (
            "filter-refuses",
            WARNING,
            f"A filter answers the system call rseq with {answer} in the kernel's place ({proof})"
            f"{_suspects(document)}. No program started here has rseq. {WHO_LOSES.split('; ', maxsplit=1)[0]}",
            "To have rseq, allow the call in the filter (container or service sandbox profile) before programs start",
            SECCOMP,
        )
    else:
        yield (
            "kernel-without-rseq",
            WARNING,
            f"The kernel, or what emulates it here (gVisor, qemu-user, valgrind), answers rseq with {answer}: it does "
            "not have it, and programs take their slower ways",
            "Nothing to repair; a Linux kernel from 4.18 with CONFIG_RSEQ has it",
            "rseq(2)",
        )


def _faked(document: Document) -> Iterator[Found]:
    empty = [t for t in document["threads"] if t["owner"] == NONE and not t["believed"]]
    if not _believing_size(document) or not empty or _is_dead(document) or _was_killed(document):
        return
    faked = _is_faked(document)
    why = (
        "a filter answers 'success' without asking the kernel"
        if faked
        else "somebody took the registration back since, or the thread was started by one that had lost its own"
    )
    yield (
        "filter-fakes" if faked else "registration-gone",
        ERROR if faked else WARNING,
        f"glibc says that rseq is registered, but in {_names(empty)} the kernel has nothing: {why}. A library that "
        "looks only at glibc's __rseq_size is fooled; cpu_id in the area, which is negative, tells the truth",
        "Let the filter allow the call, or refuse it with ENOSYS" if faked else "Libraries must look at cpu_id, too",
        f"{MANUAL}; {SECCOMP}",
    )


def _is_faked(document: Document) -> bool:
    """Return whether rseq(2) is answered with success by a filter."""
    answer = (document["seccomp"] or {}).get("rseq") or {}
    return _answer(document) == "success" or (answer.get("action") == "errno" and answer["errno"] == 0)


def _was_killed(document: Document) -> bool:
    return bool((document["run"] or {}).get("killed_by"))


def _believing_size(document: Document) -> bool:
    return bool(document["libc"] and document["libc"]["size"])


def _refused_after_start(document: Document) -> Iterator[Found]:
    if document["kernel"] and document["kernel"]["refused_after_start"] and not _is_faked(document):
        yield (
            "threads-will-be-killed",
            ERROR,
            "Programs that are started from this shell are ended by glibc at their first thread ('Fatal glibc error: "
            "rseq registration failed'): this very program was registered when it started, and the call has been "
            f"refused ({_answer(document)}) since; something installs a filter in every program{_suspects(document)}",
            ALLOW,
            PTHREAD_CREATE,
        )


def _killed(document: Document) -> Iterator[Found]:
    run = document["run"] or {}
    words = "\n".join(run.get("last_words", []))
    who = "A small test program" if document["kind"] == "host" else "The program"
    if MESSAGE in words and (run.get("killed_by") or run.get("children")):
        victim = who if run.get("killed_by") else "A process that the program started"
        yield (
            "threads-killed",
            ERROR,
            f"{victim} was ended by glibc with 'Fatal glibc error: rseq registration failed'. Its main thread was "
            f"registered when it started; then {_obstacle(document)}, and the next thread that it started could not "
            f"be registered{_suspects(document)}",
            ALLOW,
            PTHREAD_CREATE,
        )
    elif run.get("killed_by") == "SIGSYS":
        yield (
            "filter-kills",
            ERROR,
            f"{who} was killed by SIGSYS: a seccomp filter ({WHAT_FILTER}) kills who makes a call that it does not "
            f"allow; rseq {'is' if _stopped_by_filter(document) else 'may be'} such a one{_suspects(document)}",
            ALLOW,
            SECCOMP,
        )
    elif run.get("killed_by") == "SIGSEGV" and document["kernel"] and document["kernel"]["class"] == V2:
        yield ("program-died", ERROR, f"{who} was killed by SIGSEGV: {words[:120]}", "See the stores above", V2_RULES)
    elif run.get("killed_by"):
        yield (
            "program-died",
            ERROR,
            f"{who} was killed by {run['killed_by']}{': ' + words[:120] if words else ''}",
            "If rseq is suspected, see whether it lives with " + OFF,
            MANUAL,
        )


def _obstacle(document: Document) -> str:
    """Return what has come between the main thread's registration and the next one."""
    answer = (document["seccomp"] or {}).get("rseq") or {}
    if answer.get("errno"):
        return f"a seccomp filter ({WHAT_FILTER}) was installed that answers the call with {_errno(answer)}"
    return f"the call was refused, most likely by a seccomp filter ({WHAT_FILTER})"


def _errno(answer: Document) -> str:
    return errno.errorcode.get(answer["errno"], f"error {answer['errno']}")


def _suspects(document: Document) -> str:
    preload = (document["libc"] or {}).get("preload")
    return f" (LD_PRELOAD names {preload})" if preload else ""


def _filter_ahead(document: Document) -> Iterator[Found]:
    seccomp = document["seccomp"] or {}
    answer = seccomp.get("rseq") or {}
    registered = [t for t in document["threads"] if t["owner"] == GLIBC]
    if not seccomp.get("filters") or not registered or document["kind"] == "host" or _was_killed(document):
        return
    unknown = "it asks another process, a supervisor" if answer.get("action") == "notify" else seccomp.get("unread")
    if unknown:
        yield (
            "filter-unread",
            NOTE,
            f"A seccomp filter ({WHAT_FILTER}) is in force, and what it says of rseq is not known: {unknown}. If it "
            "came after the start and refuses the call, the next thread is fatal",
            "Ask who runs the supervisor" if answer else "Ask again as root",
            SECCOMP,
        )
    elif answer.get("action") not in (*PASSING, None):
        yield _next_thread(document, seccomp)


def _next_thread(document: Document, seccomp: Document) -> Found:
    """Say what happens to the next thread, whose registration a filter does not let pass."""
    who = "this program" if seccomp["thread"] is None else f"{seccomp['thread']} of this program"
    ended = (document["run"] or {}).get("moment") == "end"
    head = f"The next thread that {who} {'had started would' if ended else 'starts will'}"
    came = f"its threads have rseq, and a seccomp filter ({WHAT_FILTER}) that came after its start"
    answer = seccomp["rseq"]
    if answer["action"] == "errno" and not answer["errno"]:
        return (
            "threads-will-be-fooled",
            ERROR,
            f"{head} believe that it has rseq, and have none: {came} answers 'success' without asking the kernel. The "
            "CPU number of such a thread stands still, and who trusts it works on another CPU's data",
            ALLOW,
            PTHREAD_CREATE,
        )
    fate, how = {
        "kill": ("end it", "kills who makes the call (SIGSYS)"),
        "kill-thread": ("be killed at once, without a message", "kills who makes the call (SIGSYS)"),
        "trap": ("end it", "answers the call with the signal SIGSYS, which kills"),
        "trace": (f"end it with '{FATAL}'", "refuses the call where no tracer decides (ENOSYS)"),
    }.get(answer["action"]) or (f"end it with '{FATAL}'", f"refuses the call ({_errno(answer)})")
    return ("threads-will-be-killed", ERROR, f"{head} {fate}: {came} {how}", ALLOW, PTHREAD_CREATE)


# --- libc


def _tunable(document: Document) -> Iterator[Found]:
    tunable = (document["libc"] or {}).get("tunable")
    text = tunable["text"] if tunable else (document["process"] or {}).get("tunables")
    asked, size = asked_for(text), (document["libc"] or {}).get("size")
    if size is None or _answer(document) != "present":
        return
    own = any(thread["owner"] == OTHER for thread in document["threads"])
    where = "this shell's environment" if document["kind"] != "process" else "its environment when it was started"
    if size == 0 and asked is not None and (tunable is None or tunable["in_force"]):
        yield (
            "tunable-off",
            NOTE if own else WARNING,
            f"glibc's rseq is switched off, by GLIBC_TUNABLES in {where} ('{text}'). {WHO_LOSES}",
            f"Keep it for programs with tcmalloc; else take {TUNABLE}=0 out of GLIBC_TUNABLES",
            f"{TUNABLES}; {GETCPU}; {TCMALLOC}; {LIBRSEQ}",
        )
    elif size > 0 and asked == "0":
        why, cure = _why_ignored(document)
        sentence = f"GLIBC_TUNABLES says {TUNABLE}=0, but rseq is on all the same{why}"
        yield ("tunable-ignored", WARNING, sentence, cure, TUNABLES)
    elif size == 0 and not own and not _was_killed(document) and not _stopped_by_filter(document):
        yield (
            "off-unexplained",
            WARNING,
            "glibc has not registered rseq, though the kernel offers it and no tunable says so"
            + (" in the environment" if text is None else f" ('{text}')"),
            "See with strace -e rseq what the call is answered when a program starts",
            MANUAL,
        )


def _stopped_by_filter(document: Document) -> bool:
    answer = (document["seccomp"] or {}).get("rseq") or {}
    return answer.get("action") not in (*PASSING, None)


def _why_ignored(document: Document) -> tuple[str, str]:
    if (document["run"] or {}).get("secure"):
        why = ": a program with more rights than who starts it (set-user-ID, file capabilities) ignores tunables"
        return why, "Start it as the user whose rights it takes on; the environment cannot switch rseq off otherwise"
    return "", "Check the spelling of the whole variable: glibc passes over what it does not know"


def _no_support(document: Document) -> Iterator[Found]:
    libc = document["libc"]
    if libc is not None and libc["size"] is None:
        yield (
            "libc-without-rseq",
            NOTE,
            "This libc does not know rseq (glibc before 2.35, or another libc): a library that wants it registers it",
            "Nothing to repair",
            MANUAL,
        )


# --- owners and areas


def _names(threads: Sequence[Document]) -> str:
    names = [thread["name"] for thread in threads]
    if len(names) > 3:
        names[3:] = [f"{len(names) - 3} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _other_owner(document: Document) -> Iterator[Found]:
    others = [thread for thread in document["threads"] if thread["owner"] == OTHER]
    if not others:
        return
    home = next((thread["object"] for thread in others if thread["object"]), None)
    where = (f" (its area lies in {home})" if home else "") + _strange_signature(others)
    if _believing_size(document):
        old = any(thread["believed"] for thread in others)
        trust = (
            "Who trusts glibc's area, as sched_getcpu() does, reads an old CPU number"
            if old
            else "Who looks only at glibc's __rseq_size takes its area, which is switched off there, for a live one"
        )
        yield (
            "owner-disagrees",
            ERROR,
            f"Two claim rseq: glibc says that it registers an area in every thread, but in {_names(others)} the kernel "
            f"serves another one{where}. {trust}",
            f"Start the program with {OFF}, so that only the other one registers",
            f"{MANUAL}; rseq(2)",
        )
    else:
        yield (
            "own-registration",
            NOTE,
            f"The program, or a library in it, registers rseq itself{where}, in {_names(others)}; glibc leaves it to "
            "it. That works; others that rely on glibc's area take their slower ways",
            "Nothing to repair",
            f"{LIBRSEQ}; {TCMALLOC}",
        )


def _strange_signature(threads: Sequence[Document]) -> str:
    """Return what a signature does that code is not usually built for; nothing for the usual one."""
    strange = next((t["signature"] for t in threads if t["signature"] not in (SIGNATURE, None)), None)
    if strange is None:
        return ""
    return f", with the signature {strange:#x}: the kernel kills restartable code that was built for {SIGNATURE:#x}"


def _dead_threads(document: Document) -> list[Document]:
    """Return the threads whose registration was a success, as far as they were told, and whose cpu_id stands still."""
    believed = [thread for thread in document["threads"] if thread["believed"]]
    return [t for t in believed if (_is_faked(document) if t["owner"] == NONE else t["follows"] is False)]


def _is_dead(document: Document) -> bool:
    return bool(_dead_threads(document))


def _dead(document: Document) -> Iterator[Found]:
    dead = _dead_threads(document)
    stale = [t for t in document["threads"] if t["believed"] and t["owner"] == NONE and t not in dead]
    if dead:
        yield (
            "registration-dead",
            ERROR,
            f"rseq looks registered in {_names(dead)}: the call was answered with success. But the CPU number in its "
            "area stays the same, also when the thread moves to another CPU: whoever trusts it works on another CPU's "
            f"data, without any message{_suspects(document)}",
            f"Find who fakes the registration (a preloaded library, a filter, an emulator); until then, {OFF}",
            f"{MANUAL}; rseq(2)",
        )
    if stale:
        yield (
            "registration-stale",
            ERROR,
            f"rseq looks registered in {_names(stale)}, and the kernel has nothing registered there: the CPU number in "
            "its area stands still, nothing restarts interrupted code, and data are corrupted without any message",
            "Such a thread (made with raw clone(), or unregistered behind glibc's back) must not run rseq code",
            f"{MANUAL}; rseq(2)",
        )


def _overwritten(document: Document) -> Iterator[Found]:
    registered = [thread for thread in document["threads"] if thread["owner"] in (GLIBC, OTHER)]
    seen = [found["object"] for found in document["writes"]] if registered else []
    wrong = [thread for thread in registered if _ids_differ(thread)]
    if not seen and not wrong:
        return
    who = f"by {', '.join(seen)}" if seen else f"in {_names(wrong)} (it differs from cpu_id beside it)"
    class_ = document["kernel"]["class"] if document["kernel"] else None
    after = {
        LEGACY: "This kernel writes it anew at every switch, so that it works here; on Linux 6.19 to 7.0.9 it stays "
        "wrong, and from 7.0.10 the program is killed (SIGSEGV) if its area is longer than 32 bytes",
        CHANGED_ONLY: "This kernel does not repair it before the thread moves: until then everybody reads a wrong CPU",
        V2: "This kernel kills the program for it (SIGSEGV) if its area is longer than 32 bytes",
    }.get(
        class_ or "",
        "Linux before 6.19 repairs that, later ones do not, or even kill the program for it: `rseq-matrix doctor` says "
        "what this kernel does",
    )
    yield (
        "ids-overwritten",
        ERROR,
        f"The CPU number that only the kernel may write (cpu_id_start and cpu_id in the rseq area) is overwritten "
        f"{who}. {after}",
        f"Update that library; if it must do so (tcmalloc's caches do), start with {OFF} so that it has its own area",
        f"{V2_RULES}; {CHANGED_RULES}; {TCMALLOC}",
    )


def _ids_differ(thread: Document) -> bool:
    cpu, start = thread["cpu_id"], thread["cpu_id_start"]
    return cpu is not None and cpu >= 0 and start is not None and start != cpu


def _differ(document: Document) -> Iterator[Found]:
    kinds: dict[tuple[Any, ...], list[Document]] = {}
    for thread in document["threads"]:
        if thread["owner"] != "unknown":
            kinds.setdefault((thread["owner"], thread["length"], thread["signature"]), []).append(thread)
    if len(kinds) < 2 or document["kind"] == "host" or _was_killed(document):
        return
    words = [f"{_names(alike)}: {_kind(alike[0])}" for alike in kinds.values()]
    more = f"; and {len(words) - 4} other kinds" if len(words) > 4 else ""
    yield (
        "threads-differ",
        WARNING,
        f"The threads are not registered alike ({'; '.join(words[:4])}{more}): a library that looked at one thread "
        "only is wrong about others",
        "A library must look in each thread; raw threads (clone(2)) are registered by nobody",
        "rseq(2)",
    )


def _kind(thread: Document) -> str:
    """Return how a thread is registered."""
    if thread["owner"] == NONE:
        return "not registered"
    by = "by glibc" if thread["owner"] == GLIBC else "by other code"
    signature = "" if thread["signature"] in (SIGNATURE, None) else f", signature {thread['signature']:#x}"
    return f"registered {by}, {thread['length']} bytes{signature}"


def _area_gone(document: Document) -> Iterator[Found]:
    gone = [thread for thread in document["threads"] if lost_area(thread)]
    if gone:
        yield (
            "area-unmapped",
            ERROR,
            f"The memory that is registered as the rseq area of {_names(gone)} is not there any more: the kernel "
            "writes the CPU number into it, and kills the program (SIGSEGV) as soon as the thread runs on",
            "Who registers an area must unregister it before freeing it, or before its thread ends",
            "rseq(2)",
        )


# --- kernel classes, membarrier, static TLS


def _kernel_class(document: Document) -> Iterator[Found]:
    kernel = document["kernel"]
    if not kernel:
        return
    if kernel["class"] == CHANGED_ONLY:
        yield (
            "kernel-changed-only",
            WARNING,
            "This kernel writes a thread's CPU number only when it changes: tcmalloc's per-CPU caches, which overwrite "
            "it and wait for the kernel, do not work right here",
            "Update the kernel to 7.0.10 or later, or switch those caches off",
            f"{CHANGED_RULES}; {TCMALLOC}",
        )
    if kernel["rseq"] == "present" and kernel["membarrier"]["aborts"] is False:
        yield (
            "membarrier-does-not-abort",
            WARNING,
            "membarrier(2) accepts its rseq command, but does not interrupt critical sections on other CPUs: "
            "librseq's fences and tcmalloc's resizing rely on that",
            "Report it to who makes the kernel, or what emulates it",
            "membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ",
        )


def _static_tls(document: Document) -> Iterator[Found]:
    for library in document["libraries"]:
        if not library["fits"]:
            yield (
                "static-tls-full",
                ERROR,
                f"{library['path']} cannot be loaded later, because its thread-local variables need room that every "
                f"thread gets at its start (static TLS): {library['sentence']}",
                "Preload or link it, or raise the tunable named here",
                "glibc elf/dl-tls.c, _dl_tls_static_surplus_init",
            )
    words = [w for w in (document["run"] or {}).get("last_words", []) if TLS_MESSAGE in w]
    if words:
        yield (
            "static-tls-full",
            ERROR,
            f"A library could not be loaded, because the room for thread-local variables that every thread gets at its "
            f"start is used up: {words[0][:160]}",
            "Preload or link the library, or raise GLIBC_TUNABLES=glibc.rtld.optional_static_tls=… (rseq-matrix "
            "inspect LIBRARY says how far)",
            "glibc elf/dl-tls.c, _dl_tls_static_surplus_init",
        )


RULES: tuple[Callable[[Document], Iterator[Found]], ...] = (
    _refused_after_start,
    _area_gone,
    _killed,
    _filter_ahead,
    _dead,
    _overwritten,
    _other_owner,
    _faked,
    _refused,
    _static_tls,
    _tunable,
    _differ,
    _kernel_class,
    _no_support,
)


def _healthy_sentence(document: Document) -> str:
    threads = document["threads"]
    if document["kind"] != "host":
        has_it = any(thread["length"] for thread in threads)
        return f"Healthy{_healthy_program(document, '' if has_it else ', which has none')}."
    if not threads or any(thread["owner"] != GLIBC for thread in threads):
        return "Healthy: nothing is wrong with rseq here."
    right = ", and the CPU numbers are right" if all(thread["follows"] for thread in threads) else ""
    return f"Healthy: the kernel has rseq, glibc registers it in every thread{right}."


def _healthy_program(document: Document, without: str) -> str:
    """Say how far the health of a process or program goes; `without`: it does not use rseq at all."""
    if document["kind"] == "process":
        return f": nothing is wrong with rseq in this process{without}"
    if document["run"]["moment"] in ("entry", "tls"):
        works = "nothing is wrong with rseq" if without else "rseq works"
        return f": {works} in this program{without}, up to where its own code begins"
    if document["run"]["left"]:
        return ", as far as it was followed: the program left others behind and ended"
    return f": nothing is wrong with rseq in this program{without}" if without else ": rseq worked in this program"


def diagnose(document: Document) -> Document:
    """Return the findings, gravest first, and the verdict. A note is no fault."""
    names = ("id", "severity", "sentence", "advice", "reference")
    found = [dict(zip(names, one, strict=True)) for rule in RULES for one in rule(document)]
    found.sort(key=lambda one: (ERROR, WARNING, NOTE).index(one["severity"]))
    faults = [one for one in found if one["severity"] != NOTE]
    count = f"{len(faults)} thing{'s' * (len(faults) != 1)}"
    grave = any(one["severity"] == ERROR for one in faults)
    sentence = f"{'Wrong' if grave else 'Take note'}: {count}, named below." if faults else _healthy_sentence(document)
    return {"findings": found, "verdict": {"healthy": not faults, "sentence": sentence}}
