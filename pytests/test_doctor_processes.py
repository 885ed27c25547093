"""`rseq-matrix doctor --process`: what is wrong in a running process, which goes on unharmed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from conftest import COMMAND
from doctoring import OFF, doctor, named, state, waiting
from moments import comes, is_asleep
from rseq_matrix.ptrace.seize import seized


@pytest.mark.ptrace
def test_a_healthy_process_goes_on() -> None:
    with waiting(["sleep", "60"], ready=False) as pid:
        assert comes(lambda: is_asleep(pid, "sleep"))
        document = doctor("--process", str(pid))
        assert named(document) == set()
        assert document["threads"][0]["owner"] == "glibc"
        assert document["watched"]
        assert state(pid) == "S"


@pytest.mark.ptrace
def test_a_stopped_process_stays_stopped(planted: Callable[[str], str]) -> None:
    with waiting([planted("overwriting_often")]) as pid:
        os.kill(pid, signal.SIGSTOP)
        assert comes(lambda: state(pid) == "T")
        document = doctor("--process", str(pid))
        assert document["threads"][0]["owner"] == "glibc"
        assert not document["writes"]  # it did not run for a moment either
        assert not document["watched"]
        assert state(pid) == "T"


@pytest.mark.ptrace
def test_a_signal_that_comes_while_a_process_is_traced_is_delivered() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert comes(lambda: is_asleep(process.pid, "sleep"))
        with seized(process.pid) as tracees:
            tracee = tracees.tasks[process.pid]
            tracee.restart()
            process.terminate()
            assert tracees.await_stop(tracee)
            tracee.restart()
        assert process.wait() == -signal.SIGTERM


@pytest.mark.ptrace
def test_a_busy_process_with_signals_survives() -> None:
    code = (
        "import signal, threading, time\n"
        "signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "threading.Thread(target=lambda: [time.sleep(0) for _ in range(10**9)], daemon=True).start()\n"
        "print('ready', flush=True)\n"
        "while True: sum(range(1000))\n"
    )
    with waiting([sys.executable, "-c", code]) as pid:
        for _ in range(3):
            document = doctor("--process", str(pid))
            assert named(document) == set()
            assert len(document["threads"]) == 2
        assert state(pid) in "RS"


@pytest.mark.ptrace
def test_a_process_that_overwrites_is_caught_in_the_act_and_goes_on_unharmed(planted: Callable[[str], str]) -> None:
    if doctor()["kernel"]["class"] == "v2":
        pytest.skip("this kernel kills such a process")
    with subprocess.Popen([planted("overwriting_often")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        command = [*COMMAND, "doctor", "--process", str(process.pid), "--json", "-"]
        sent = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as doctoring:
            while doctoring.poll() is None:
                os.kill(process.pid, signal.SIGRTMIN)
                sent += 1
                time.sleep(0.002)
            assert doctoring.stdout is not None
            document = json.load(doctoring.stdout)
        time.sleep(0.05)  # it overwrites on: a debug register that was left behind would kill it
        process.terminate()
        assert int(process.stdout.read()) == sent
        assert process.wait() == 0
    assert document["writes"][0]["object"] == "overwriting_often"
    assert document["writes"][0]["count"] > 1
    assert named(document) == {"ids-overwritten"}


@pytest.mark.ptrace
def test_a_process_whose_next_thread_is_its_last(planted: Callable[[str], str]) -> None:
    with waiting([planted("late_filter"), "wait"]) as pid:
        document = doctor("--process", str(pid))
        if os.geteuid() == 0:
            assert named(document) == {"threads-will-be-killed"}
            answer = {"action": "errno", "errno": 1}
            assert document["seccomp"] == {"filters": 1, "thread": None, "rseq": answer, "unread": None}
        else:
            assert named(document) == {"filter-unread"}
        assert state(pid) == "S"


@pytest.mark.ptrace
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read another process's seccomp filters")
def test_a_filter_of_one_thread_only(planted: Callable[[str], str]) -> None:
    with waiting([planted("many_threads"), "2", "lock"]) as pid:
        document = doctor("--process", str(pid))
        assert named(document) == {"threads-will-be-killed"}
        assert document["seccomp"]["thread"] == document["threads"][-1]["name"]
        assert document["seccomp"]["thread"] in document["findings"][0]["sentence"]
        assert "EPERM" in document["findings"][0]["sentence"]


@pytest.mark.ptrace
def test_the_strict_mode_has_no_filter(planted: Callable[[str], str]) -> None:
    with waiting([planted("strict_mode")]) as pid:
        assert doctor("--process", str(pid))["seccomp"]["filters"] == 0


def ended_while_watched() -> tuple[int, str, str]:
    """Kill a process as soon as the doctor lets it run on, watched; return (exit status, output, errors)."""
    with subprocess.Popen(["sleep", "60"]) as process:
        command = [*COMMAND, "doctor", "--process", str(process.pid)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as doctoring:
            while state(process.pid) != "t" and doctoring.poll() is None:
                time.sleep(0.0005)
            while state(process.pid) == "t" and doctoring.poll() is None:
                time.sleep(0.0005)
            process.kill()
            said, complaint = doctoring.communicate()
    return doctoring.returncode, said, complaint


@pytest.mark.ptrace
def test_a_process_that_ends_while_it_is_looked_at() -> None:
    for _ in range(8):  # on a busy machine the doctor may be done before the process is killed
        status, said, complaint = ended_while_watched()
        if status != 0:
            break
    assert (status, said, len(complaint.splitlines())) == (4, "", 1)


@pytest.mark.ptrace
def test_threads_and_programs_that_are_only_just_starting_are_no_defect(planted: Callable[[str], str]) -> None:
    for mode in ("storm", "again"):
        with waiting([planted("starting"), mode]) as pid:
            for _ in range(4):
                assert named(doctor("--process", str(pid))) == set()


@pytest.mark.ptrace
def test_own_registration(planted: Callable[[str], str]) -> None:
    with waiting([planted("own_registration")], environment=OFF) as pid:
        document = doctor("--process", str(pid))
        assert named(document) == {"own-registration", "tunable-off"}
        assert {found["severity"] for found in document["findings"]} == {"note"}
        assert [thread["owner"] for thread in document["threads"]] == ["other", "other"]
        assert {thread["object"] for thread in document["threads"]} == {"own_registration"}


@pytest.mark.ptrace
def test_a_stale_thread_of_a_process(planted: Callable[[str], str]) -> None:
    with waiting([planted("stale_thread")]) as pid:
        document = doctor("--process", str(pid))
        assert named(document) == {"registration-stale"}
        if len(os.sched_getaffinity(0)) > 1:
            assert document["threads"][0]["follows"] is False
        assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)
        assert state(pid) == "S"


@pytest.mark.ptrace
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read another process's seccomp filters")
def test_a_dead_process(planted: Callable[[str], str]) -> None:
    with waiting(["sleep", "60"], False, {"LD_PRELOAD": planted("dead_preload")}) as pid:
        assert comes(lambda: is_asleep(pid, "sleep"))
        assert named(doctor("--process", str(pid))) == {"registration-dead"}


@pytest.mark.ptrace
def test_an_area_that_was_unmapped(planted: Callable[[str], str]) -> None:
    with waiting([planted("unmapped_area")]) as pid:
        document = doctor("--process", str(pid))
    assert document["findings"][0]["id"] == "area-unmapped"
    assert document["threads"][1]["name"] in document["findings"][0]["sentence"]
