"""`rseq-matrix doctor`: every planted defect is named, and nothing else is; bad input is one sentence."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from conftest import COMMAND, ROOT, Command, run_command
from rseq_matrix.doctor import filters
from rseq_matrix.doctor.filters import Instruction, answer_of, call_data, read_filters, value_of
from rseq_matrix.doctor.kernel_behaviour import barrier_aborts, kernel_class, length_class, registration_document
from rseq_matrix.doctor.libc import asked_for
from rseq_matrix.doctor.lines import Spoken, parse
from rseq_matrix.doctor.process import resume
from rseq_matrix.doctor.seccomp import strictness
from rseq_matrix.doctor.thread import empty_thread
from rseq_matrix.doctor.verdict import diagnose
from rseq_matrix.layout.tracing import standing_still, status_field
from rseq_matrix.report.doctor import show_doctor

PLANTED = Path(__file__).resolve().parent / "planted"
SCHEMA = json.loads((ROOT / "scripts/rseq_matrix/schema/doctor-1.json").read_text(encoding="utf-8"))
OFF = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
RSEQ, PTRACE = "334", "101"

Document = dict[str, Any]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return the function that compiles a planted defect, once: a library if its name says that it is preloaded."""
    directory = tmp_path_factory.mktemp("planted")

    def go(name: str, *flags: str) -> str:
        target = directory / (f"{name}.so" if name.endswith("preload") else name + "".join(flags))
        if not target.exists():
            kind = ["-shared", "-fPIC"] if name.endswith("preload") else ["-pthread", *flags]
            cc = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", *kind]
            subprocess.run([*cc, "-o", str(target), str(PLANTED / f"{name}.c")], check=True)
        return str(target)

    return go


def doctor(*arguments: str, **options: Any) -> Document:
    """Return the document of an examination, whose exit status says whether all is well."""
    environment = os.environ | options.pop("environment", {})
    done = run_command("doctor", "--json", "-", *arguments, env=environment, **options)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1), (done.returncode, done.stderr)
    document: Document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert done.returncode == (0 if document["verdict"]["healthy"] else 1)
    return document


def named(document: Document) -> set[str]:
    return {found["id"] for found in document["findings"]}


@contextmanager
def waiting(command: Sequence[str], ready: bool = True, environment: dict[str, str] | None = None) -> Iterator[int]:
    """Run a program and yield its process when it says that it is ready."""
    variables = os.environ | (environment or {})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stdout is not None
        if ready:
            assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid
        finally:
            process.kill()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


# --- a healthy host


@pytest.fixture(scope="module")
def host() -> Document:
    return doctor()


def test_a_host_without_a_defect_is_healthy(host: Document) -> None:
    assert named(host) == set()
    assert host["kernel"]["rseq"] == "present"
    assert host["kernel"]["class"] in ("legacy", "changed-only", "v2")
    assert host["libc"]["size"] >= 20
    assert host["libc"]["tunable"] == {"text": None, "asked": None, "in_force": None}


def test_the_package_of_libc_is_named(host: Document) -> None:
    loader = os.path.realpath("/lib64/ld-linux-x86-64.so.2")
    query = ["dpkg-query", "-S", loader, loader.removeprefix("/usr")]
    if not shutil.which(query[0]) or not subprocess.run(query, capture_output=True, check=False).stdout:
        pytest.skip("no package manager of Debian's knows the dynamic linker")
    assert host["libc"]["package"].startswith("libc6")


def test_more_findings_than_fit_are_counted(host: Document) -> None:
    finding = {"id": "tunable-off", "severity": "warning", "sentence": "Off", "advice": "None", "reference": "none"}
    document = host | {"findings": [finding] * 5}
    for verbose, shown in ((False, 3), (True, 5)):
        written = io.StringIO()
        show_doctor(Console(file=written, width=80), document, verbose)
        text = written.getvalue()
        assert text.count("Off.") == shown
        assert ("and 2 more: --verbose" in text) != verbose


@pytest.mark.ptrace
def test_both_threads_are_seen_from_inside_and_outside(host: Document) -> None:
    main, second = host["threads"]
    for thread in (main, second):
        assert thread["owner"] == "glibc"
        assert thread["length"] >= 32
        assert thread["signature"] == 0x53053053
        assert thread["believed"]
        if len(os.sched_getaffinity(0)) > 1:
            assert thread["follows"]
            assert thread["sched_getcpu_follows"]
    assert main["address"] != second["address"]
    assert host["watched"]


def test_the_kernel_is_told_by_experiment(host: Document) -> None:
    kernel = host["kernel"]
    assert kernel["registrations"][0]["length"] == 32
    for found in kernel["registrations"]:
        assert found["answer"] == 0
        assert found["events"]["sleep"] in ("kept", "rewritten")
    if len(os.sched_getaffinity(0)) > 1:
        assert kernel["membarrier"] == {"offered": True, "answer": 0, "aborts": True}


def test_one_screen_in_two_seconds() -> None:
    run_command("doctor")  # builds
    assert min(_timed() for _ in range(3)) < 2


def _timed() -> float:
    """Return the processor time, which other programs do not lengthen; and look whether it is one screen."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_command("doctor", env=os.environ | {"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def test_verbose_shows_the_experiments() -> None:
    done = run_command("doctor", "--verbose")
    for word in ("32 bytes", "registered; its CPU number overwritten, then: sleep", "__rseq_offset", "restartable seq"):
        assert word in done.stdout


def test_verbose_says_what_was_not_registered(deny: Path) -> None:
    options = {"env": os.environ | {"COLUMNS": "200"}}
    refused = run_command("doctor", "--verbose", wrapper=[str(deny), RSEQ, str(errno.EPERM)], **options)
    assert "refused with EPERM; its CPU number overwritten, then: sleep not tried" in refused.stdout
    faked = run_command("doctor", "--verbose", wrapper=[str(deny), RSEQ, "0"], **options)
    assert "answered 'success', and not done; its CPU number" in faked.stdout


@pytest.mark.usefixtures("host")
def test_without_ptrace_it_says_less(deny: Path) -> None:
    document = doctor(wrapper=[str(deny), PTRACE, str(errno.EPERM)])
    assert document["untraced"]
    assert named(document) == set()
    assert [thread["owner"] for thread in document["threads"]] == ["glibc", "glibc"]


# --- defects of a host


def test_tunable_off() -> None:
    document = doctor(environment=OFF)
    assert named(document) == {"tunable-off"}
    assert document["libc"]["tunable"] == {"text": OFF["GLIBC_TUNABLES"], "asked": "0", "in_force": True}
    sentence = document["findings"][0]["sentence"]
    assert "sched_getcpu() gets slower" in sentence
    assert "tcmalloc" in sentence


@pytest.mark.parametrize("text", ["glibc.pthread.rsec=0", "glibc.malloc.check=0", "glibc.pthread.rseq=1"])
def test_a_tunable_without_effect_is_none(text: str) -> None:
    document = doctor(environment={"GLIBC_TUNABLES": text})
    assert named(document) == set()
    assert document["libc"]["size"]


def test_a_tunable_that_is_ignored_is_named() -> None:
    document = doctor(environment={"GLIBC_TUNABLES": "glibc.pthread.rseq=00x"})
    size = document["libc"]["size"]
    assert named(document) == ({"tunable-off"} if size == 0 else set())


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.EPERM])
def test_a_filter_that_refuses(deny: Path, answer: int) -> None:
    document = doctor(wrapper=[str(deny), RSEQ, str(answer)])
    assert named(document) == {"filter-refuses"}
    assert errno.errorcode[answer] in document["findings"][0]["sentence"]
    assert document["kernel"]["class"] is None


def test_a_tunable_is_not_blamed_for_what_a_filter_does(deny: Path) -> None:
    document = doctor(wrapper=[str(deny), RSEQ, str(errno.EPERM)], environment=OFF)
    assert document["libc"]["tunable"]["in_force"] is False
    assert named(document) == {"filter-refuses"}


def test_a_filter_that_fakes_success(deny: Path) -> None:
    document = doctor(wrapper=[str(deny), RSEQ, "0"])
    assert named(document) == {"filter-fakes"}
    assert document["libc"]["size"] > 0
    assert [thread["cpu_id"] for thread in document["threads"]] == [-1, -2]  # libc did not try the second thread


@pytest.mark.ptrace
def test_a_preload_that_overwrites(planted: Callable[[str], str]) -> None:
    document = doctor(environment={"LD_PRELOAD": planted("overwriting_preload")})
    assert "ids-overwritten" in named(document) or document["kernel"]["class"] == "v2"
    assert document["writes"] == [{"object": "overwriting_preload.so", "count": 1}]
    assert "overwriting_preload.so" in document["findings"][0]["sentence"]


def test_a_dead_registration(planted: Callable[[str], str]) -> None:
    document = doctor(environment={"LD_PRELOAD": planted("dead_preload")})
    assert named(document) == {"registration-dead"}
    if len(os.sched_getaffinity(0)) > 1:
        assert document["threads"][0]["follows"] is False


def test_a_preload_that_locks_every_program_in(planted: Callable[[str], str]) -> None:
    document = doctor(environment={"LD_PRELOAD": planted("late_filter_preload")})
    assert named(document) == {"threads-will-be-killed"}
    assert "late_filter_preload.so" in document["findings"][0]["sentence"]


# --- a program


@pytest.mark.ptrace
@pytest.mark.parametrize("flags", [(), ("-static",), ("-static", "-s"), ("-static-pie",)])
def test_a_program_is_held_before_its_own_code(planted: Callable[..., str], flags: tuple[str, ...]) -> None:
    document = doctor("--", planted("late_filter", *flags))
    assert document["run"]["moment"] in ("entry", "tls")
    assert document["run"]["exit_status"] is None
    assert document["watched"]
    assert document["threads"][0]["owner"] == ("unknown" if "-s" in flags else "glibc")
    assert named(document) <= {"libc-without-rseq"}


@pytest.mark.ptrace
def test_the_message_of_glibc_gets_its_cause_and_cure(planted: Callable[[str], str]) -> None:
    document = doctor("--run", "--", planted("late_filter"))
    assert named(document) == {"threads-killed"}
    assert document["run"]["killed_by"] == "SIGABRT"
    assert "rseq registration failed" in document["run"]["last_words"][-1]
    assert "glibc.pthread.rseq=0" in document["findings"][0]["advice"]
    cured = doctor("--run", "--", planted("late_filter"), environment=OFF)
    assert document["run"]["exit_status"] is None
    assert (cured["run"]["exit_status"], cured["run"]["killed_by"]) == (0, None)


@pytest.mark.ptrace
def test_a_filter_that_kills(planted: Callable[[str], str]) -> None:
    document = doctor("--run", "--", planted("killing_filter"), "/bin/true")
    assert named(document) == {"filter-kills"}
    assert document["run"]["program"].endswith("true")
    assert document["run"]["killed_by"] == "SIGSYS"


@pytest.mark.ptrace
def test_a_program_behind_another(planted: Callable[[str], str], deny: Path) -> None:
    preload = f"LD_PRELOAD={planted('overwriting_preload')}"
    assert named(doctor("--run", "--", "env", preload, "sh", "-c", "exit 3")) == {"ids-overwritten"}
    document = doctor("--run", "--", str(deny), RSEQ, "38", "/bin/true")
    assert named(document) == {"filter-refuses"}


@pytest.mark.ptrace
def test_a_program_that_goes_on_for_ever_is_ended() -> None:
    document = doctor("--run", "--time-limit", "0.5", "--", "sleep", "60")
    assert document["run"]["moment"] == "time limit"
    assert document["threads"][0]["owner"] == "glibc"
    assert named(document) == set()


@pytest.mark.ptrace
def test_a_library_whose_tls_will_not_fit(tmp_path: Path) -> None:
    source = ROOT / "pytests" / "helpers" / "tls_library.c"
    library = tmp_path / "large.so"
    defines = ["-DLIBRARY_SIZE=65536", "-DLIBRARY_ALIGNMENT=8"]
    model = ["-shared", "-fPIC", "-ftls-model=initial-exec"]
    subprocess.run(["cc", "-O1", *defines, *model, "-o", str(library), str(source)], check=True)
    document = doctor("--loads", str(library), "--", "/bin/true")
    assert named(document) == {"static-tls-full"}
    assert document["libraries"][0]["fits"] is False


FINISHED = {"moment": "end", "exit_status": 0, "killed_by": None}


def facts(document: Document, *names: str) -> Document:
    return {name: document["run"][name] for name in names}


@pytest.mark.ptrace
def test_a_program_that_waits_for_its_children_comes_to_its_end() -> None:
    document = doctor("--run", "--time-limit", "5", "--", "sh", "-c", "/bin/true; /bin/true & wait; exit 0")
    assert facts(document, *FINISHED, "children", "left") == FINISHED | {"children": 2, "left": 0}
    assert named(document) == set()


@pytest.mark.ptrace
def test_a_child_that_glibc_ends_is_not_taken_for_the_program(planted: Callable[[str], str]) -> None:
    document = doctor("--run", "--", "sh", "-c", f"{planted('late_filter')}; exit 0")
    assert facts(document, *FINISHED) == FINISHED
    assert named(document) == {"threads-killed"}
    assert "A process that the program started" in document["findings"][0]["sentence"]
    quoted = doctor("--run", "--", "echo", "Fatal glibc error: rseq registration failed")
    assert named(quoted) == set()


@pytest.mark.ptrace
def test_a_program_that_goes_to_the_background_is_said_to() -> None:
    document = doctor("--run", "--", "sh", "-c", "sleep 60 & exit 0")
    assert facts(document, *FINISHED, "children", "left") == FINISHED | {"children": 1, "left": 1}
    assert "left others behind" in document["verdict"]["sentence"]
    shown = run_command("doctor", "--run", "--", "sh", "-c", "sleep 60 & exit 0", env=os.environ | {"COLUMNS": "200"})
    assert "1 went on behind it" in shown.stdout
    assert "--process" in shown.stdout


@pytest.mark.ptrace
def test_a_program_with_hundreds_of_threads(planted: Callable[[str], str]) -> None:
    document = doctor("--run", "--time-limit", "8", "--", planted("many_threads"), "300")
    assert facts(document, *FINISHED) == FINISHED
    assert document["threads"][0]["name"] == "main"
    assert len(document["threads"]) == 301
    assert named(document) == set()


@pytest.mark.ptrace
def test_threads_that_end_before_they_have_begun_are_no_defect(planted: Callable[[str], str]) -> None:
    for _ in range(3):
        document = doctor("--run", "--", planted("many_threads"), "5", "leave")
        assert facts(document, *FINISHED) == FINISHED
        assert named(document) == set()


@pytest.mark.ptrace
def test_the_end_of_a_thread_is_not_the_end_of_its_program() -> None:
    code = "import threading, time; threading.Thread(target=lambda: 0).start(); time.sleep(60)"
    document = doctor("--run", "--time-limit", "1", "--", sys.executable, "-c", code)
    assert facts(document, *FINISHED) == {"moment": "time limit", "exit_status": None, "killed_by": None}


@pytest.mark.ptrace
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a program of another user's")
def test_a_set_user_id_program_ignores_the_tunable(tmp_path: Path) -> None:
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip("set-user-ID is switched off where the tests write")
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    document = doctor("--", str(program), environment=OFF)
    assert document["run"]["secure"]
    assert named(document) == {"tunable-ignored"}


@pytest.mark.ptrace
def test_all_threads_of_a_program_whose_time_is_up_are_looked_at(planted: Callable[[str], str]) -> None:
    document = doctor("--run", "--time-limit", "1", "--", planted("many_threads"), "2", "lock")
    assert [thread["owner"] for thread in document["threads"]] == ["glibc"] * 3
    assert os.geteuid() != 0 or document["seccomp"]["rseq"] == {"action": "errno", "errno": errno.EPERM}


@pytest.mark.ptrace
def test_a_shell_whose_time_is_up_between_its_children() -> None:
    for _ in range(3):
        begin = time.monotonic()
        document = doctor("--run", "--time-limit", "0.5", "--", "sh", "-c", "while :; do /bin/true; done")
        assert (document["run"]["moment"], named(document)) == ("time limit", set())
        assert time.monotonic() - begin < 5


@pytest.mark.ptrace
def test_a_long_path_is_not_cut_on_a_narrow_screen(tmp_path: Path) -> None:
    program = tmp_path / ("long" * 30)
    shutil.copy("/bin/true", program)
    done = run_command("doctor", "--", str(program), env=os.environ | {"COLUMNS": "40"})
    assert str(program) in "".join(done.stdout.split()).removeprefix("program")


@pytest.mark.ptrace
def test_what_a_program_did_before_it_became_another_counts() -> None:
    document = doctor("--run", "--", "sh", "-c", "/bin/true & exec /bin/true")
    assert facts(document, *FINISHED, "children") == FINISHED | {"children": 1}


@pytest.mark.ptrace
@pytest.mark.libc_a
def test_a_program_with_a_root_of_its_own_is_read_there(planted: Callable[..., str]) -> None:
    program = planted("many_threads", "-static")
    script = f"mount --bind {program} /bin/true && exec /bin/true 1"
    if subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here, or not for this user")
    document = doctor("--run", "--", "unshare", "-m", "sh", "-c", script)
    assert facts(document, *FINISHED, "static") == FINISHED | {"static": True}


@pytest.mark.ptrace
def test_what_a_program_says_does_not_reach_the_screen_raw(tmp_path: Path) -> None:
    program = tmp_path / "strange\033[31m"
    shutil.copy("/bin/sh", program)
    done = run_command("doctor", "--verbose", "--run", "--", str(program), "-c", "printf '\\033[31m'; kill -ABRT $$")
    assert "SIGABRT" in done.stdout
    assert "\033" not in done.stdout


@pytest.mark.ptrace
def test_a_trap_of_the_programs_own_is_its_own() -> None:
    document = doctor("--run", "--", "sh", "-c", "kill -TRAP $$; exit 0")
    assert facts(document, "exit_status", "killed_by") == {"exit_status": None, "killed_by": "SIGTRAP"}
    assert named(document) == {"program-died"}


@pytest.mark.ptrace
def test_a_script_is_followed(tmp_path: Path) -> None:
    def script(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
        return str(tmp_path / name)

    shell = script("shell", "#! /bin/sh -e\nexit 3\n")
    document = doctor("--run", "--", shell)
    assert facts(document, "program", "exit_status") == {"program": shell, "exit_status": 3}
    assert document["threads"][0]["owner"] == "glibc"
    assert doctor("--", script("second", f"#!{shell}\n"))["run"]["moment"] == "entry"
    done = run_command("doctor", "--", script("orphan", "#!/nonexistent/shell\n"))
    assert (done.returncode, done.stdout) == (4, "")
    assert "a script for /nonexistent/shell, which is not here" in done.stderr
    done = run_command("doctor", "--", script("circle", f"#!{tmp_path}/circle\n"))
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)


# --- a process


@pytest.mark.ptrace
def test_a_healthy_process_goes_on() -> None:
    with waiting(["sleep", "60"], ready=False) as pid:
        time.sleep(0.2)
        document = doctor("--process", str(pid))
        assert named(document) == set()
        assert document["threads"][0]["owner"] == "glibc"
        assert document["watched"]
        assert state(pid) == "S"


@pytest.mark.ptrace
def test_a_stopped_process_stays_stopped(planted: Callable[[str], str]) -> None:
    with waiting([planted("overwriting_often")]) as pid:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)
        document = doctor("--process", str(pid))
        assert document["threads"][0]["owner"] == "glibc"
        assert not document["writes"]  # it did not run for a moment either
        assert not document["watched"]
        assert state(pid) == "T"


@pytest.mark.ptrace
def test_a_signal_that_comes_while_a_process_is_held_is_handed_on() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        time.sleep(0.2)
        with standing_still(process.pid) as held:
            resume(held, [process.pid])
            process.terminate()
            assert held.wait_until_still(process.pid)
            resume(held, [process.pid])
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
def test_a_process_that_overwrites_is_caught_in_the_act_and_goes_on_unharmed(
    host: Document, planted: Callable[[str], str]
) -> None:
    if host["kernel"]["class"] == "v2":
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


@pytest.mark.ptrace
def test_a_process_that_ends_while_it_is_looked_at() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        command = [*COMMAND, "doctor", "--process", str(process.pid)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as doctoring:
            while status_field(Path(f"/proc/{process.pid}"), "TracerPid") == "0":
                time.sleep(0.001)
            time.sleep(0.03)
            process.kill()
            said, complaint = doctoring.communicate()
    assert (doctoring.returncode, said, len(complaint.splitlines())) == (4, "", 1)


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
        time.sleep(0.2)
        assert named(doctor("--process", str(pid))) == {"registration-dead"}


# --- bad input


def zombie() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    while state(child) != "Z":
        time.sleep(0.01)
    return child


@pytest.mark.ptrace
def test_bad_processes() -> None:
    dead = zombie()
    cases = {"999999999": "there is no process", str(dead): "a zombie", "-1": "there is no process"}
    if state(2) in "SI" and Path("/proc/2/comm").read_text(encoding="utf-8") == "kthreadd\n":
        cases["2"] = "a thread of the kernel"
    for pid, words in cases.items():
        done = run_command("doctor", "--process", pid)
        assert (done.returncode, done.stdout) == (4, ""), pid
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    os.waitpid(dead, 0)


def test_a_process_that_may_not_be_traced(deny: Path) -> None:
    with waiting(["sleep", "60"], ready=False) as pid:
        done = run_command("doctor", "--process", str(pid), wrapper=[str(deny), PTRACE, str(errno.EPERM)])
        assert done.returncode == 3
        assert "allow ptrace(2)" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.ptrace
def test_a_32_bit_process(tmp_path: Path) -> None:
    program = tmp_path / "waits32"
    assembly = ".globl _start\n_start: movl $29, %eax\n int $0x80\n jmp _start\n"
    flags = ["-m32", "-nostdlib", "-static", "-x", "assembler", "-", "-o", str(program)]
    made = subprocess.run(["cc", *flags], input=assembly, text=True, capture_output=True, check=False)
    if made.returncode:
        pytest.skip("the compiler makes no 32-bit programs (Debian: gcc-multilib)")
    with waiting([str(program)], ready=False) as pid:
        time.sleep(0.2)
        done = run_command("doctor", "--process", str(pid))
        assert done.returncode == 4
        assert "32-bit" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--", "nosuchprogram"], 4, "no such program on the PATH"),
        (["--", "/nonexistent/program"], 4, "there is no such file"),
        (["--", "/etc/passwd"], 4, "not an ELF file"),
        (["--run"], 2, "needs a COMMAND"),
        (["--process", "1", "--", "true"], 2, "cannot be asked for together"),
        (["--process", "me"], 2, "not a valid integer"),
        (["--loads", "/nonexistent.so", "--", "/bin/true"], 4, "/nonexistent.so"),
        (["--json", "/nonexistent/out.json"], 2, "/nonexistent"),
        (["--run", "--time-limit", "nan", "--", "true"], 2, "no number of seconds"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], code: int, words: str) -> None:
    done = run_command("doctor", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- the judgement, without a machine


def spoken(text: str, status: int = 0) -> Spoken:
    return Spoken(parse("\n".join(f"doctor kernel {line}" for line in text.splitlines())), status)


REGISTERED = "control 22\nanswer 0\ncpu_id 1\n"
ALL_REWRITTEN = REGISTERED + "trying sleep\nsleep rewritten\ntrying signal\nsignal rewritten\n"
ALL_KEPT = REGISTERED + "trying sleep\nsleep kept\ntrying signal\nsignal kept\n"
MOVED = "trying migration\nmigration rewritten\ndone 1"
KILLED_MOVING = "trying migration"
LEGACY = registration_document(32, spoken(ALL_REWRITTEN + MOVED))
CHANGED = registration_document(64, spoken(ALL_KEPT + MOVED))
V2 = registration_document(64, spoken(ALL_KEPT + KILLED_MOVING, -signal.SIGSEGV))
ONE_CPU = registration_document(64, spoken(ALL_KEPT + "done 1"))


def test_the_classes_of_kernels() -> None:
    assert [length_class(found) for found in (LEGACY, CHANGED, V2)] == ["legacy", "changed-only", "v2"]
    assert V2["killed_by"] == "SIGSEGV"
    assert kernel_class([LEGACY, LEGACY]) == "legacy"
    assert kernel_class([CHANGED, CHANGED]) == "changed-only"
    assert kernel_class([LEGACY, V2]) == "v2"
    assert kernel_class([LEGACY, ONE_CPU]) == "v2"
    refused = registration_document(64, spoken("control 22\nanswer 22"))
    assert kernel_class([LEGACY, refused]) == "legacy"
    faked = registration_document(32, spoken("control 0\nanswer 0\ncpu_id -1\ntrying sleep\nsleep kept\nsignal kept"))
    assert kernel_class([faked, faked]) is None


@pytest.mark.parametrize(
    ("hits", "chance", "rounds", "aborts"),
    [(10, 0, 10, True), (10, 3, 10, True), (0, 0, 10, False), (3, 3, 10, None), (0, 0, 0, None), (2, 3, 10, None)],
)
def test_whether_a_barrier_aborts(hits: int, chance: int, rounds: int, aborts: bool | None) -> None:
    said = {"aborted_with": str(hits), "aborted_without": str(chance), "rounds": str(rounds)}
    assert barrier_aborts(Spoken({"barrier": said}, 0)) is aborts


def healthy_document(**changes: Any) -> Document:
    thread = empty_thread("main") | {"owner": "glibc", "length": 32, "cpu_id": 1, "cpu_id_start": 1, "believed": True}
    libc = {"size": 20, "tunable": {"text": None, "asked": None, "in_force": None}, "preload": None}
    kernel = {"rseq": "present", "refused_after_start": False, "feature_size": 28, "class": "legacy"}
    kernel["membarrier"] = {"aborts": True}
    base = {"kind": "host", "kernel": kernel, "libc": libc, "process": None, "run": None, "seccomp": None}
    return {**base, "threads": [thread], "writes": [], "libraries": [], **changes}


def findings(document: Document) -> set[str]:
    found = diagnose(document)["findings"]
    for one in found:
        jsonschema.validate(one, SCHEMA["$defs"]["finding"])
    return {one["id"] for one in found}


def test_the_rules_that_this_machine_cannot_show() -> None:
    healthy = healthy_document()
    assert diagnose(healthy)["verdict"]["healthy"]
    thread = healthy["threads"][0]
    kernel = healthy["kernel"]
    assert findings(healthy_document(kernel=kernel | {"class": "changed-only"})) == {"kernel-changed-only"}
    assert findings(healthy_document(kernel=kernel | {"membarrier": {"aborts": False}})) == {
        "membarrier-does-not-abort"
    }
    old = kernel | {"rseq": "ENOSYS", "feature_size": None, "class": None}
    none = thread | {"owner": "none", "believed": False, "cpu_id": -2}
    off = healthy["libc"] | {"size": 0}
    assert findings(healthy_document(kernel=old, libc=off, threads=[none])) == {"kernel-without-rseq"}
    assert findings(healthy_document(threads=[thread | {"follows": False}])) == {"registration-dead"}
    assert findings(healthy_document(threads=[thread | {"owner": "other", "object": "x.so"}])) == {"owner-disagrees"}
    assert findings(healthy_document(threads=[thread | {"cpu_id_start": 7}])) == {"ids-overwritten"}
    assert findings(healthy_document(libc=off, threads=[none])) == {"off-unexplained"}
    assert findings(healthy_document(threads=[thread, none], kind="process", kernel=None)) >= {"threads-differ"}
    unread = {"filters": 1, "rseq": None, "unread": "only root may"}
    assert findings(healthy_document(seccomp=unread, kind="process", kernel=None)) == {"filter-unread"}
    words = {"last_words": ["x.so: cannot allocate memory in static TLS block"], "killed_by": None, "moment": "end"}
    assert findings(healthy_document(run=words, kind="command", kernel=None)) == {"static-tls-full"}


def test_what_is_healthy_is_said_as_it_is() -> None:
    def sentence(**changes: Any) -> str:
        verdict = diagnose(healthy_document(**changes))["verdict"]
        assert verdict["healthy"]
        return str(verdict["sentence"])

    (thread,) = healthy_document()["threads"]
    assert "glibc registers it in every thread, and the CPU numbers" in sentence(threads=[thread | {"follows": True}])
    assert "CPU numbers" not in sentence(threads=[thread | {"follows": None}])
    none = thread | {"owner": "none", "length": None, "believed": None}
    assert "which has none" in sentence(kind="process", kernel=None, libc=None, threads=[none])
    assert "which has none" not in sentence(kind="process", kernel=None)
    off = healthy_document()["libc"] | {"size": 0}
    own = thread | {"owner": "other", "object": "x.so", "believed": False}
    assert "glibc registers" not in sentence(libc=off, threads=[own])
    assert "glibc registers" not in sentence(
        libc=off | {"size": None}, threads=[thread | {"owner": "none", "believed": None}]
    )


def test_names_are_a_list_in_words() -> None:
    def words(count: int) -> str:
        threads = [healthy_document()["threads"][0] | {"name": f"t{i}", "owner": "other"} for i in range(count)]
        found = diagnose(healthy_document(threads=threads, kind="process", kernel=None))["findings"][0]
        return str(found["sentence"].partition(" but in ")[2].partition(" the kernel")[0])

    assert [words(i) for i in (1, 2, 3)] == ["t0", "t0 and t1", "t0, t1 and t2"]
    assert words(5) == "t0, t1, t2 and 2 more"


def test_a_preloaded_library_is_suspected() -> None:
    libc = healthy_document()["libc"] | {"preload": "/lib/strange.so"}
    thread = healthy_document()["threads"][0] | {"follows": False}
    kernel = healthy_document()["kernel"] | {"rseq": "EPERM"}
    for changes in ({"threads": [thread]}, {"kernel": kernel}):
        assert "/lib/strange.so" in diagnose(healthy_document(libc=libc, **changes))["findings"][0]["sentence"]


def test_the_rules_about_libc_and_its_end() -> None:
    healthy = healthy_document()
    unknown = healthy["libc"] | {"size": None}
    assert findings(healthy_document(libc=unknown)) == {"libc-without-rseq"}
    assert diagnose(healthy_document(libc=unknown))["verdict"]["healthy"]
    gone = healthy["threads"][0] | {"owner": "none", "believed": False, "cpu_id": -1}
    assert findings(healthy_document(kind="process", kernel=None, threads=[gone])) == {"registration-gone"}
    refused = healthy["kernel"] | {"rseq": "EPERM", "refused_after_start": True, "class": None}
    assert findings(healthy_document(kernel=refused)) == {"threads-will-be-killed"}
    run = {"killed_by": "SIGABRT", "last_words": ["Fatal glibc error: rseq registration failed"], "moment": "end"}
    assert findings(healthy_document(kind="command", kernel=None, run=run)) == {"threads-killed"}
    assert findings(healthy_document(kind="command", kernel=None, run=run | {"last_words": []})) == {"program-died"}


@pytest.mark.parametrize(
    ("action", "number", "id_", "words"),
    [
        ("errno", errno.EPERM, "threads-will-be-killed", "refuses the call (EPERM)"),
        ("errno", 0, "threads-will-be-fooled", "answers 'success'"),
        ("kill", None, "threads-will-be-killed", "starts will end it: "),
        ("kill-thread", None, "threads-will-be-killed", "starts will be killed at once"),
        ("trap", None, "threads-will-be-killed", "the signal SIGSYS"),
        ("trace", None, "threads-will-be-killed", "no tracer decides"),
        ("notify", None, "filter-unread", "a supervisor"),
    ],
)
def test_what_a_filter_does_to_the_next_thread(action: str, number: int | None, id_: str, words: str) -> None:
    answer = {"action": action, "errno": number}
    seccomp = {"filters": 1, "thread": None, "rseq": answer, "unread": None}
    document = healthy_document(seccomp=seccomp, kind="process", kernel=None)
    assert findings(document) == {id_}
    (found,) = diagnose(document)["findings"]
    assert words in found["sentence"]
    assert ("'Fatal glibc error" in found["sentence"]) == (bool(number) or action == "trace")
    assert "system calls that a program may make" in found["sentence"]
    run: Document = {"moment": "end", "killed_by": None, "last_words": []}
    (found, *_) = diagnose(healthy_document(seccomp=seccomp, kind="command", kernel=None, run=run | {"left": 0}))[
        "findings"
    ]
    assert id_ == "filter-unread" or "had started would" in found["sentence"]


@pytest.mark.parametrize(
    ("error", "why"),
    [(errno.EACCES, "only root"), (errno.EPERM, "only root"), (errno.EIO, "(EIO)"), (errno.ENOENT, "")],
)
def test_why_filters_cannot_be_read(monkeypatch: pytest.MonkeyPatch, error: int, why: str) -> None:
    monkeypatch.setattr(filters, "lib", SimpleNamespace(rsm_trace_filter=lambda *_: error))
    found, unread = read_filters(1)
    assert found == []
    assert (why in unread) if unread else not why


def test_the_strictest_filters_of_the_threads_count() -> None:
    def having(action: str | None) -> Document:
        return {"filters": 1, "rseq": action and {"action": action, "errno": None}}

    order = ["kill", "kill-thread", "trap", "errno", "notify", "trace"]
    values = [strictness(having(action)) for action in order]
    assert values == sorted(values, reverse=True)
    assert min(values) > strictness(having("allow")) == strictness(having("log")) == strictness(having(None))


def test_threads_that_differ_are_named_by_kind() -> None:
    thread = healthy_document()["threads"][0]
    alike = [thread | {"name": f"thread {i}", "signature": 0x53053053} for i in range(9)]
    odd = thread | {"name": "odd", "owner": "none", "length": None, "believed": False, "cpu_id": -1}
    other = alike[0] | {"name": "strange", "signature": 0x1}
    found = diagnose(healthy_document(kind="process", kernel=None, threads=[*alike, odd, other]))["findings"]
    (differ,) = [one["sentence"] for one in found if one["id"] == "threads-differ"]
    assert "odd: not registered" in differ
    assert "thread 0, thread 1, thread 2 and 6 more: registered by glibc, 32 bytes;" in differ
    assert "strange: registered by glibc, 32 bytes, signature 0x1" in differ


def test_another_owner_leaves_an_old_number_only_if_there_is_one() -> None:
    thread = healthy_document()["threads"][0] | {"owner": "other", "object": "x.so"}
    for believed in (True, False):
        document = healthy_document(threads=[thread | {"believed": believed}], kind="process", kernel=None)
        assert ("an old CPU number" in diagnose(document)["findings"][0]["sentence"]) == believed


@pytest.mark.ptrace
def test_an_area_that_was_unmapped(planted: Callable[[str], str]) -> None:
    with waiting([planted("unmapped_area")]) as pid:
        document = doctor("--process", str(pid))
    assert document["findings"][0]["id"] == "area-unmapped"
    assert document["threads"][1]["name"] in document["findings"][0]["sentence"]


def test_an_unusual_signature_is_told_of() -> None:
    thread = healthy_document()["threads"][0] | {"owner": "other", "believed": False}
    for signature, told in ((0x12345678, True), (0x53053053, False)):
        document = healthy_document(threads=[thread | {"signature": signature}], kind="process", kernel=None)
        assert ("restartable code that was built" in diagnose(document)["findings"][0]["sentence"]) == told


def test_an_at_secure_program_ignores_the_tunable() -> None:
    tunable = {"text": OFF["GLIBC_TUNABLES"], "asked": "0", "in_force": False}
    run = {"secure": True, "last_words": [], "killed_by": None, "moment": "entry"}
    libc = {"size": 20, "tunable": tunable, "preload": None}
    found = diagnose(healthy_document(kind="command", kernel=None, libc=libc, run=run))["findings"]
    assert [one["id"] for one in found] == ["tunable-ignored"]
    assert "set-user-ID" in found[0]["sentence"]
    assert "spelling" not in found[0]["advice"]


def test_the_last_tunable_counts() -> None:
    assert asked_for("glibc.pthread.rseq=0:glibc.pthread.rseq=1") == "1"
    assert asked_for("glibc.malloc.check=1") is None
    assert asked_for(None) is None


# --- filters


LOAD_NUMBER, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, KILL, ERRNO, KILL_THREAD = 0x7FFF0000, 0x80000000, 0x00050000, 0


def refusing(value: int) -> list[Instruction]:
    return [
        Instruction(LOAD_NUMBER, 0, 0, 0),
        Instruction(EQUALS, 0, 1, 334),
        Instruction(RETURN, 0, 0, value),
        Instruction(RETURN, 0, 0, ALLOW),
    ]


def test_filters_are_walked_through() -> None:
    data = call_data()
    assert value_of(refusing(ERRNO | 38), data) == ERRNO | 38
    assert answer_of([refusing(ERRNO | 38)], data) == {"action": "errno", "errno": 38}
    assert answer_of([refusing(ERRNO | 1), refusing(KILL)], data) == {"action": "kill", "errno": None}
    assert answer_of([refusing(ALLOW), refusing(ERRNO)], data) == {"action": "errno", "errno": 0}
    assert answer_of([refusing(ERRNO | 1), refusing(KILL_THREAD)], data) == {"action": "kill-thread", "errno": None}
    assert answer_of([refusing(KILL_THREAD), refusing(KILL)], data) == {"action": "kill", "errno": None}
    assert answer_of([], data) is None
    assert value_of([Instruction(LOAD_NUMBER, 0, 0, 0)], data) is None


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ([(0x04, 3)], 15),  # add
        ([(0x14, 13)], 0xFFFFFFFF),  # subtract
        ([(0x24, 3)], 36),  # multiply
        ([(0x34, 5)], 2),  # divide
        ([(0x44, 1)], 13),  # or
        ([(0x54, 4)], 4),  # and
        ([(0x64, 2)], 48),  # shift left
        ([(0x74, 2)], 3),  # shift right
        ([(0x84, 0)], 0xFFFFFFF4),  # negate
        ([(0xA4, 4)], 8),  # exclusive or
        ([(0x07, 0), (0x0C, 0)], 24),  # to the index; add the index
        ([(0x01, 7), (0x87, 0)], 7),  # load the index; from the index
        ([(0x02, 3), (0x00, 1), (0x60, 3)], 12),  # store, load, load what was stored
        ([(0x07, 0), (0x03, 2), (0x01, 1), (0x61, 2), (0x87, 0)], 12),  # the same with the index
        ([(0x80, 0)], 64),  # the length of struct seccomp_data
        ([(0x05, 1), (0x00, 1)], 12),  # jump over
        ([(0x20, 16 + 24)], 0x53053053),  # the fourth argument
    ],
)
def test_the_instructions_of_a_filter(steps: list[tuple[int, int]], value: int) -> None:
    program = [(0x00, 12), *steps, (0x16, 0)]  # load 12; return what comes out
    assert value_of([Instruction(code, 0, 0, operand) for code, operand in program], call_data()) == value


@pytest.mark.parametrize(
    ("comparison", "operand", "holds"),
    [
        (0x15, 12, 1),
        (0x15, 11, 0),
        (0x25, 12, 0),
        (0x25, 11, 1),
        (0x35, 12, 1),
        (0x35, 13, 0),
        (0x45, 4, 1),
        (0x45, 3, 0),
    ],
)
def test_the_comparisons_of_a_filter(comparison: int, operand: int, holds: int) -> None:
    program = [Instruction(0x00, 0, 0, 12), Instruction(comparison, 0, 1, operand)]
    assert value_of([*program, Instruction(0x06, 0, 0, 1), Instruction(0x06, 0, 0, 0)], call_data()) == holds


def test_a_filter_that_looks_at_an_argument() -> None:
    by_length = [
        Instruction(LOAD_NUMBER, 0, 0, 16 + 8),  # the low half of the second argument
        Instruction(0x54, 0, 0, 0xFF),  # and
        Instruction(0x25, 0, 1, 32),  # greater than
        Instruction(RETURN, 0, 0, KILL),
        Instruction(RETURN, 0, 0, ALLOW),
    ]
    assert value_of(by_length, call_data(length=32)) == ALLOW
    assert value_of(by_length, call_data(length=33)) == KILL


def test_verbose_shows_what_the_kernel_answers(command: Command) -> None:
    done = command("doctor", "--verbose", "--json", "-")
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    answers = document["kernel"]["answers"]
    assert answers["agrees"], [row for row in answers["rows"] if not row["agrees"]]
    shown = command("doctor", "--verbose").stdout
    assert "what this kernel answers to rseq(2)" in shown
    assert "register behind a filter that answers ENOSYS" in " ".join(shown.split())
    assert "what this kernel answers" not in command("doctor").stdout
