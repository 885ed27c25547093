"""What programs print when rseq(2) fails them: whose message it is, what it means, and what to do.

glibc's message is seen to come: a program of ours (csrc/explain/filtered_thread.c) gets the filter that causes it, and
each cure is tried on it.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix.build import build
from rseq_matrix.documents.explain import ProgramReplay
from rseq_matrix.errors import MissingError
from rseq_matrix.explain.elsewhere import SECCOMP_STATUS
from rseq_matrix.kernels.answers import WELL_ALIGNED
from rseq_matrix.kernels.features import PRESENT, SIGNATURE, Host
from rseq_matrix.kernels.replay import UNREGISTERED, plain_environment, program
from rseq_matrix.kernels.rules import ORIGINAL_LENGTH, Call
from rseq_matrix.kernels.sequences import CallStep, behind_filter, by_main, by_thread
from rseq_matrix.model import timeline
from rseq_matrix.signals import signal_name

FATAL = timeline.FATAL.message
TIME_LIMIT = 20
LINE_LIMIT = 1 << 11
"""No message stands so far behind in a line, and patterns would take their time."""
LATE, EARLY, NEVER = "late", "early", "never"
EPERM = 1
AS_MAIN = {(True, True): "main 1 thread 1", (False, False): "main 0 thread 0"}


@dataclass(frozen=True)
class ProgramTrial:
    """One run of csrc/explain/filtered_thread.c."""

    what: str
    arguments: tuple[str, ...]
    want: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cure:
    """Something to do about it."""

    do: str
    loses: str
    trial: ProgramTrial | None = None


@dataclass(frozen=True)
class Message:
    """A message that programs print."""

    id: str
    pattern: re.Pattern[str]
    whose: str
    because: str
    look: str
    reference: str
    answer: str = ""
    """The errno that it stands for, if it stands for one: then the causes are those of the errno."""
    cures: tuple[Cure, ...] = ()
    trial: ProgramTrial | None = None
    """What makes glibc print it."""
    steps: tuple[CallStep, ...] = ()
    """What a child does to come to the same state, and what it then sees."""
    want: str = ""


FILTER_LATE = ProgramTrial(
    "a program that installs such a filter in main() and then starts a thread", (LATE, str(EPERM)), FATAL
)
LOSES_NOTHING = "loses nothing: rseq tells a program only where it runs, as getcpu(2) does"
CURES = (
    Cure(
        "let the filter allow rseq(2) (number 334 on x86-64): programs and libraries of the distribution are "
        "updated for that, and a seccomp profile of your own needs the one more line",
        LOSES_NOTHING,
        ProgramTrial("the same program without a rule for rseq(2) in its filter", (NEVER,), AS_MAIN[True, True]),
    ),
    Cure(
        "install the filter before the program is started (in its parent, between fork and exec, as container "
        "engines and systemd do)",
        "loses rseq in the whole program: glibc sees at start that it is refused and does without, so "
        "sched_getcpu() and per-CPU libraries (tcmalloc, LTTng-UST, librseq) take their slower ways",
        ProgramTrial("the same filter, installed before exec", (EARLY, str(EPERM)), AS_MAIN[False, False]),
    ),
    Cure(
        "start the program with GLIBC_TUNABLES=glibc.pthread.rseq=0 in its environment (ignored in set-user-ID "
        "programs)",
        "loses rseq in the whole program, as above; nothing has to be rebuilt",
        ProgramTrial("the program with that variable", (LATE, str(EPERM)), AS_MAIN[False, False], UNREGISTERED),
    ),
)
AREA = Call(WELL_ALIGNED, ORIGINAL_LENGTH, 0, SIGNATURE)
DEVELOPMENT = (
    "this is a glibc from its development between July and August 2020, which was never released so, and ends the "
    "program where rseq(2) answers {answer}"
)
REVERTED = "glibc commit 0c76fc3c2b34, reverted before 2.32"


def _development(name: str, words: str, answer: str) -> Message:
    pattern = re.compile(re.escape(f"glibc fatal error: {words}"))
    because = DEVELOPMENT.format(answer=answer)
    return Message(name, pattern, "glibc's development version of 2020", because, "", REVERTED, answer)


MESSAGES: Sequence[Message] = (
    Message(
        "glibc-registration-failed",
        re.compile(r"rseq\s+registration\s+failed", re.IGNORECASE),
        "glibc's, 2.35 and later",
        "the program was allowed to call rseq(2) when it started, so glibc registered its main thread, and was "
        "refused it when it created another thread, because a seccomp filter (a list of allowed system calls) "
        "without rseq was installed in between; glibc ends a program then, because threads with rseq and threads "
        "without cannot share per-CPU data",
        SECCOMP_STATUS + "; in strace -f -e trace=rseq,seccomp,prctl the filter comes after the first rseq call",
        "glibc nptl/pthread_create.c start_thread, commit a41c8e9235",
        cures=CURES,
        trial=FILTER_LATE,
    ),
    Message(
        "kernel-log",
        re.compile(r"type=(1326|SECCOMP)\b(?=.*\bsig=31\b).*\bsyscall=(334|rseq)\b"),
        "the kernel's, in its log",
        "the line says that a seccomp filter ended the program pid=… for the system call 334, rseq(2) on x86-64",
        "",
        "Linux kernel/auditsc.c, audit_seccomp",
        "SIGSYS",
    ),
    _development("glibc-2020-busy", "rseq already registered for this thread", "EBUSY"),
    _development("glibc-2020-address", "rseq parameter is an invalid address", "EFAULT"),
    _development("glibc-2020-invalid", "rseq parameters are invalid", "EINVAL"),
    Message(
        "tcmalloc-thread",
        re.compile(r"CHECK.*InitThreadPerCpu\(\)|InitFastPerCpu.*CHECK"),
        "tcmalloc's",
        "the first thread of the program could register tcmalloc's area with rseq(2), and a later thread was "
        "refused: a seccomp filter without rseq was installed in between, or another library had registered its own "
        "area for that thread, which then answers EINVAL",
        SECCOMP_STATUS + "; strace -f -e trace=rseq shows the errno, which can be given to explain",
        "tcmalloc tcmalloc/internal/percpu.cc, InitFastPerCpu",
        cures=(
            Cure(
                "let the filter allow rseq(2)",
                LOSES_NOTHING,
            ),
            Cure(
                "if the other library is glibc, start the program with GLIBC_TUNABLES=glibc.pthread.rseq=0",
                "loses glibc's use of rseq: sched_getcpu() becomes slower; libraries that look for glibc's area "
                "find none",
            ),
        ),
        steps=(by_main(AREA), behind_filter("EPERM"), by_thread(AREA)),
        want="EPERM",
    ),
    Message(
        "librseq-cpu-id",
        re.compile(r"rseq_current_cpu_raw\(\) >= 0.{0,4}failed"),
        "librseq's",
        "rseq(2) said yes and registered nothing, so cpu_id in the area stayed -1: a seccomp filter or an emulator "
        "answers success without asking the kernel",
        SECCOMP_STATUS,
        "librseq src/rseq.c, rseq_register_current_thread",
        cures=(Cure("let the filter allow rseq(2), or answer ENOSYS", "with ENOSYS librseq falls back, and says so"),),
        steps=(behind_filter("0"), by_main(AREA)),
        want="0",
    ),
)


def find(text: str) -> Message | None:
    """Return the message that a text is or holds."""
    text = "\n".join(line[:LINE_LIMIT] for line in text.splitlines())
    return next((message for message in MESSAGES if message.pattern.search(text)), None)


def _run(path: Path, trial: ProgramTrial) -> str:
    """Return the result of a trial: glibc's message, or what the program printed of its threads."""
    environment = plain_environment(LIBC_FATAL_STDERR_="1", **trial.environment)
    try:
        done = subprocess.run(
            [path, *trial.arguments],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=TIME_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"a thread behind a filter could not be tried: {error}") from error
    if done.returncode == 0:
        return done.stdout.strip()
    ended = signal_name(-done.returncode) if done.returncode < 0 else f"exit status {done.returncode}"
    said = " ".join(done.stderr.split())
    return said if said == FATAL and done.returncode == -signal.SIGABRT else f"{said} ({ended})".strip()


def _checked(trial: ProgramTrial, path: Path) -> ProgramReplay:
    got = _run(path, trial)
    return ProgramReplay(trial.what, got, trial.want, got == trial.want)


@dataclass(frozen=True)
class Reproduction:
    """The results of trying it here."""

    problem: str
    """Why it was not tried; empty if it was."""
    message: ProgramReplay | None
    cures: list[ProgramReplay | None]


def reproduce(message: Message, host: Host) -> Reproduction:
    """Make glibc print its message, and try each cure. What cannot be tried here is said."""
    nothing: list[ProgramReplay | None] = [None] * len(message.cures)
    if message.trial is None:
        return Reproduction("", None, nothing)
    try:
        path = program(build(), "filtered_thread")
        plain = _run(path, ProgramTrial("", (NEVER,), ""))
    except MissingError as error:
        return Reproduction(str(error), None, nothing)
    if plain != AS_MAIN[True, True]:
        why = "this libc registers no area" if host.rseq == PRESENT else f"rseq(2) is answered with {host.rseq} here"
        return Reproduction(f"{why}, so no thread can be refused one", None, nothing)
    cures = [_checked(cure.trial, path) if cure.trial else None for cure in message.cures]
    return Reproduction("", _checked(message.trial, path), cures)
