"""The follower of ptrace/: it sees what a program does, and the program does what it would do without a tracer."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rseq_matrix.layout.program import read_program
from rseq_matrix.ptrace.follow import KILL_LIMIT, STOP_LIMIT, Follower
from rseq_matrix.ptrace.memory import ProcessMemory
from rseq_matrix.ptrace.seize import seized
from rseq_matrix.ptrace.tasks import is_process, living_tasks, status_field
from rseq_matrix.ptrace.tracee import EVENT, EVENT_STOP, GROUP, SIGNAL_DELIVERY, SYSTEM_CALL, Stop, Tracee, pauses

pytestmark = pytest.mark.ptrace

HELPERS = Path(__file__).resolve().parent / "helpers"
LIMIT = 20.0


class Recorder(Follower):
    """Notes what it is told, and goes on to the program's end."""

    sees_registrations = True

    def __init__(self, path: Path) -> None:
        super().__init__(read_program(str(path)))
        self.execs = 0
        self.new: list[bool] = []
        """Of each new task whether it is a process."""
        self.registered: list[bool] = []
        """Of each registration whether it is the main thread's."""
        self.own_code = None
        self.begun = 0
        self.has_area = False
        """The libc of this system has registered one before the program's own code."""
        self.exits: list[tuple[bool, int | None]] = []
        """Of each task that ended whether it was a thread of the program, and its status (wait(2))."""

    def at_exec(self, memory: ProcessMemory) -> None:
        assert memory.pid == self.pid
        self.execs += 1

    def at_new_task(self, tid: int) -> None:
        self.new.append(is_process(tid))

    def at_registration(self, tracee: Tracee) -> str | None:
        self.registered.append(tracee.tid == self.pid)
        assert tracee.read().registration
        return None

    def at_own_code(self, tracee: Tracee) -> str | None:
        self.begun += 1
        self.has_area = tracee.read().registration is not None
        self.by_calls = False
        self.leave_breakpoint(tracee)
        return None

    def at_exit(self, tracee: Tracee) -> str | None:
        self.exits.append((self.is_thread(tracee), tracee.event_message))
        return "end" if self.is_last(tracee) else None


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("followed") / "followed"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run(["cc", *flags, "-o", str(path), str(HELPERS / "followed.c")], check=True, timeout=60)
    return path


@contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


def follow(program: Path, what: str) -> Recorder:
    recorder = Recorder(program)
    with recorder.started(str(program), [str(program), what], os.environ, 2):
        assert recorder.run(LIMIT) == "end"
    assert living_tasks(recorder.pid) == []
    return recorder


def status(code: int) -> int:
    return code << 8


def test_an_exit(program: Path) -> None:
    seen = follow(program, "exit")
    assert (seen.execs, seen.begun, seen.new) == (1, 1, [])
    assert seen.registered == [True] * seen.has_area
    assert seen.exits == [(True, status(7))]


def test_a_fork(program: Path) -> None:
    """The parent hears of its child's end, which it does only when its tracer has waited for it."""
    seen = follow(program, "fork")
    assert seen.new == [True]
    assert seen.exits == [(False, status(3)), (True, status(0))]


def test_a_vfork_and_the_exec_of_its_child(program: Path) -> None:
    seen = follow(program, "vfork")
    assert (seen.execs, seen.begun, seen.new) == (1, 1, [True])
    assert seen.exits == [(False, status(0)), (True, status(0))]


def test_a_clone(program: Path) -> None:
    seen = follow(program, "clone")
    assert seen.new == [False]
    assert seen.exits == [(True, status(0))] * 2


@pytest.mark.parametrize("what", ["exec", "exec-from-thread"])
def test_an_exec(program: Path, what: str) -> None:
    """The program that it becomes is followed from its exec on. From a thread, too, which takes over the process id."""
    seen = follow(program, what)
    assert (seen.execs, seen.begun) == (2, 2)
    assert seen.exits[-1] == (True, status(0))


def test_signals_are_delivered(program: Path) -> None:
    assert follow(program, "signals").exits == [(True, status(0))]


def test_a_group_stop_goes_on_until_sigcont(program: Path) -> None:
    seen = follow(program, "group-stop")
    assert seen.exits == [(False, status(3)), (True, status(0))]


def test_children_are_killed_with_the_program(program: Path) -> None:
    """In process groups of their own, too, and one that is in a group-stop."""
    recorder = Recorder(program)
    with recorder.started(str(program), [str(program), "leave"], os.environ, 2):
        assert recorder.run(LIMIT) == "end"
        for _ in recorder.stops(0.2):
            pass  # those that are stopped where they are made stay so
        children = set(recorder.tasks) - {recorder.pid}
        assert len(children) == 3
    assert [tid for tid in children if living_tasks(tid)] == []


def test_a_thread_that_was_not_seen_yet_is_killed_with_the_program(program: Path) -> None:
    recorder = Recorder(program)
    with recorder.started(str(program), [str(program), "wait"], os.environ, 2):
        assert recorder.run(1.0) is None
        (thread,) = set(recorder.tasks) - {recorder.pid}
        del recorder.tasks[thread]
        begun = time.monotonic()
    assert time.monotonic() - begun < KILL_LIMIT / 2
    assert living_tasks(recorder.pid) == []


def test_a_child_of_this_program_that_is_not_traced_is_left_alone(program: Path) -> None:
    recorder = Recorder(program)
    with running("sleep", "60") as other:
        with recorder.started(str(program), [str(program), "fork"], os.environ, 2):
            other.send_signal(signal.SIGSTOP)
            assert recorder.run(LIMIT) == "end"
            assert other.pid not in recorder.tasks
        assert other.poll() is None


def test_a_signal_that_is_pending_at_detach_is_delivered() -> None:
    with running("sleep", "60") as process:
        with seized(process.pid) as tracees:
            tracee = tracees.tasks[process.pid]
            tracee.restart()
            process.send_signal(signal.SIGUSR1)
            assert tracees.await_stop(tracee)
            assert (tracee.stop, tracee.pending) == (Stop(SIGNAL_DELIVERY, signal.SIGUSR1), signal.SIGUSR1)
        assert process.wait(10) == -signal.SIGUSR1


def test_a_group_stop_of_a_seized_process_goes_on() -> None:
    """Also where it was restarted, and stopped again, meanwhile."""
    with running("sleep", "60") as process:
        with seized(process.pid) as tracees:
            tracee = tracees.tasks[process.pid]
            tracee.restart()
            process.send_signal(signal.SIGSTOP)
            assert tracees.await_stop(tracee)
            tracee.restart()
            assert tracees.await_stop(tracee)
            assert tracee.stop == Stop(GROUP, signal.SIGSTOP, EVENT_STOP)
            tracee.restart()
            assert tracees.stop(tracee)
            assert tracee.stop.kind == GROUP
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.05)
        assert process.poll() is None  # it is stopped, so the signal waits
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(10) == -signal.SIGTERM


def test_tasks_that_run_are_detached_too(program: Path) -> None:
    with running(program, "wait") as process:
        while len(living_tasks(process.pid)) < 2:
            time.sleep(0.01)
        with seized(process.pid) as tracees:
            for tracee in tracees.stopped:
                tracee.restart()
            assert len(tracees.running) == 2
        tracers = {status_field(Path(f"/proc/{tid}"), "TracerPid") for tid in living_tasks(process.pid)}
        assert tracers == {"0"}


def test_a_main_thread_that_ends_while_it_is_seized(program: Path) -> None:
    """It stays a zombie as long as there are others, and nothing tells its tracer."""
    with running(program, "leave-main") as process:
        while len(living_tasks(process.pid)) < 2:
            time.sleep(0.01)
        with seized(process.pid) as tracees:
            main = tracees.tasks[process.pid]
            os.kill(process.pid, signal.SIGUSR1)
            for _ in pauses(LIMIT):
                if process.pid not in living_tasks(process.pid):
                    break
                with suppress(ChildProcessError):
                    main.poll()
                main.restart()
            begun = time.monotonic()
            assert not tracees.stop(main)
            assert time.monotonic() - begun < STOP_LIMIT / 2


def test_a_task_that_ends_while_it_is_seized() -> None:
    with running("sleep", "60") as process:
        with seized(process.pid) as tracees:
            process.kill()
            begun = time.monotonic()
            assert not tracees.stop(tracees.tasks[process.pid])
            assert time.monotonic() - begun < STOP_LIMIT / 2
        assert process.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "kind", "pending"),
    [
        (signal.SIGUSR1, SIGNAL_DELIVERY, signal.SIGUSR1),
        (signal.SIGTRAP, SIGNAL_DELIVERY, signal.SIGTRAP),
        (signal.SIGSTOP, SIGNAL_DELIVERY, signal.SIGSTOP),
        (signal.SIGTRAP | 0x80, SYSTEM_CALL, 0),
        (EVENT_STOP << 8 | signal.SIGSTOP, GROUP, 0),
        (EVENT_STOP << 8 | signal.SIGTTIN, GROUP, 0),
        (EVENT_STOP << 8 | signal.SIGTRAP, EVENT, 0),
        (4 << 8 | signal.SIGTRAP, EVENT, 0),
    ],
)
def test_the_kinds_of_stops(code: int, kind: str, pending: int) -> None:
    tracee = Tracee(1)
    tracee.note(Stop.of(code))
    assert tracee.stop
    assert (tracee.stop.kind, tracee.pending) == (kind, pending)
