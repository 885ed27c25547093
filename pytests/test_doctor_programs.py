"""`rseq-matrix doctor -- COMMAND`: a program held before its own code, or followed to its end; each defect is named."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, run_command
from doctoring import OFF, RSEQ, Document, doctor, named


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
    assert "left other processes running" in document["verdict"]["sentence"]
    shown = run_command("doctor", "--run", "--", "sh", "-c", "sleep 60 & exit 0", env=os.environ | {"COLUMNS": "200"})
    assert "1 still ran when it had ended" in shown.stdout
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
        document = doctor("--run", "--time-limit", "0.5", "--", "sh", "-c", "while :; do /bin/true; done")
        assert (document["run"]["moment"], named(document)) == ("time limit", set())


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
