"""The environments: each is what it says, the model predicts every cell in it, and a cell that ends is expected to."""

from __future__ import annotations

import errno
import json
import os
import pty
import shutil
import signal
import subprocess
import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import pytest

from compiling import BROKEN, GOOD, compile_subject
from conftest import COMMAND, Command, Document
from rseq_matrix.build import build
from rseq_matrix.environments import readiness
from rseq_matrix.environments.catalogue import ENVIRONMENTS, SCRATCH, Start, started
from rseq_matrix.environments.readiness import ENTER, ready
from rseq_matrix.matrix.campaign import Campaign, Wanted
from rseq_matrix.matrix.cells import Cell
from rseq_matrix.matrix.journal import Journal
from rseq_matrix.matrix.judgement import Identity, judge
from rseq_matrix.matrix.runner import Runner
from rseq_matrix.matrix.targets import system_target
from rseq_matrix.matrix.tracer import Run
from rseq_matrix.model.lives import LIVES
from rseq_matrix.model.results import FAIL, XFAIL, XPASS
from rseq_matrix.model.stages import LINKS, STAGES
from rseq_matrix.model.timeline import FATAL, World, expectations
from rseq_matrix.verify.at_stages import STEPPED_ADDS, StagesRequest, work_at_stages
from rseq_matrix.verify.subject import BUILT_IN, opened

pytestmark = [pytest.mark.ptrace, pytest.mark.libc_a]
SCHEMA, VERIFY_SCHEMA = (
    json.loads((resources.files("rseq_matrix.schema") / name).read_text()) for name in ("run-1.json", "verify-1.json")
)
STEPPED = "ptrace-singlestep"
STEPPED_LINKS = ("dynamic-now", "static-pie")
"""Stepping takes its time, and what differs between the other two links and these has nothing to do with it. In a
`static` program it takes the most: its first unwinding sorts the whole table of frames (GCC's crtbeginT.o)."""

TELLS = """
#include <pthread.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>
extern const unsigned __rseq_size;
extern const long __rseq_offset;
static int cpu_id(void) { return ((volatile int *)((char *)__builtin_thread_pointer() + __rseq_offset))[1]; }
static void *tell(void *a) { printf("thread %s\\n", cpu_id() < 0 ? "without" : "with"); return a; }
int main(int count, char **words)
{
    pthread_t thread;
    char here[4096];
    printf("%s %s secure=%lu %s %s\\n", __rseq_size ? "size" : "none", cpu_id() < 0 ? "without" : "with",
           getauxval(AT_SECURE), words[count - 1], getcwd(here, sizeof(here)));
    fflush(stdout);
    if (pthread_create(&thread, NULL, tell, NULL) == 0)
        pthread_join(thread, NULL);
    return 7;
}
"""
WITH, NONE = ("size with secure=0", "thread with"), ("none without secure=0", "thread without")
TOLD = {
    "default": WITH,
    "tunable-off": NONE,
    "self-registered": NONE,
    "seccomp-enosys": NONE,
    "seccomp-eperm": NONE,
    "seccomp-fake": ("size without secure=0", "thread without"),
    "gvisor": NONE,
    "valgrind": NONE,
    "gdb": WITH,
    "qemu-user": NONE,
    "secure": ("size with secure=1", "thread with"),
    "strace": WITH,
    "static-tls-tight": WITH,
    STEPPED: WITH,
}
"""What a program says that reads __rseq_size and cpu_id as glibc's manual tells it to, in main() and in a thread."""

LACKS = {
    "valgrind": {"process.clone_vm_child"},
    "qemu-user": {"process.clone_vm_child", "thread.cancelled"},
    "static-tls-tight": {"library.dlmopen_constructor"},
}
"""What is UNSUPPORTED, for reasons that no package can cure."""
HAVE_LESS = (*LACKS, "secure")
"""The same for subjects: what a secure program executes has none."""


RUNNING = [name for name in ENVIRONMENTS if name != STEPPED]


def needed(name: str) -> str:
    """Say what the environment lacks here; empty if nothing."""
    return "" if os.environ.get("RSEQ_MATRIX_REQUIRE_ALL") else ready(build(), name, ["dynamic-now"]).hindrance


def require(name: str) -> None:
    if needed(name):
        pytest.skip(needed(name))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, command: Command) -> dict[str, list[Document]]:
    """Return the cells of every environment, as the command wrote them."""
    found: dict[str, list[Document]] = {name: [] for name in ENVIRONMENTS}
    names = [word for name in RUNNING for word in ("--environment", name)]
    stepped = ["--environment", STEPPED, *(word for link in STEPPED_LINKS for word in ("--link", link))]
    for arguments in (names, stepped):
        path = tmp_path_factory.mktemp("environments") / "out.json"
        done = command("run", *arguments, "--json", str(path), timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        document = json.loads(path.read_text())
        jsonschema.validate(document, SCHEMA)
        for cell in document["cells"]:
            found[cell["environment"]].append(cell)
    return found


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_cell_differs_from_the_model(name: str, everything: dict[str, list[Document]]) -> None:
    require(name)
    cells = everything[name]
    assert cells
    wrong = [
        f"{cell['id']}: {cell['reason']}" for cell in cells if cell["result"] not in ("PASS", XFAIL, "UNSUPPORTED")
    ]
    assert wrong == []
    lacking = {(cell["stage"], cell["link"]) for cell in cells if cell["result"] == "UNSUPPORTED"}
    static = {link for link in LINKS if link.startswith("static")}
    if name == "static-tls-tight":
        assert {link for _, link in lacking} >= static
        lacking = {(stage, link) for stage, link in lacking if link not in static}
    assert {stage for stage, _ in lacking} == LACKS.get(name, set())


def test_what_ends_is_what_has_to(everything: dict[str, list[Document]]) -> None:
    ended = {name: [cell for cell in cells if cell["result"] == XFAIL] for name, cells in everything.items()}
    assert {name for name, cells in ended.items() if cells} == {"seccomp-late", "seccomp-kill"}
    assert len(ended["seccomp-kill"]) == len(everything["seccomp-kill"])
    threads = {cell["stage"] for cell in ended["seccomp-late"]}
    assert {"thread.start", "signal.thread", "preload.interposed_function", "process.coroutine"} <= threads
    assert "executable.main" not in threads
    assert all("Fatal glibc error: rseq registration failed" in cell["reason"] for cell in ended["seccomp-late"])


@pytest.mark.gdb
def test_a_debugger_aborts_a_section_and_leads_around_its_protection(everything: dict[str, list[Document]]) -> None:
    rows = {
        (cell["stage"], cell["link"]): cell["observed"]["critical_section"]
        for cell in everything["gdb"]
        if cell["observed"]
    }
    for link in LINKS:
        assert rows["debugger.single_step", link] == "aborted"
        assert rows["debugger.breakpoint", link] == "continued"
    assert not any(cell["stage"].startswith("debugger") for cell in everything["default"])


def test_who_single_steps_gets_the_fallback(everything: dict[str, list[Document]]) -> None:
    """A library that tries a bounded number of times makes progress, though the area is registered."""
    registered = [cell for cell in everything[STEPPED] if cell["observed"]["class"] == "registered"]
    assert {cell["subject"]["path"] for cell in registered} == {"fallback"}
    assert all(cell["subject"]["aborts"] > 0 for cell in registered)


def test_nothing_is_lost_anywhere(everything: dict[str, list[Document]]) -> None:
    for cells in everything.values():
        for cell in cells:
            if cell["result"] == "PASS":
                assert cell["subject"]["committed"] >= cell["subject"]["attempted"] > 0, cell["id"]


def verified(command: Command, path: Path, *arguments: str) -> list[Document]:
    """Return the subjects of a document of `verify --phase stages`."""
    done = command("verify", "--phase", "stages", *arguments, "--json", str(path), timeout=900)
    assert done.returncode in (0, 1, 3), done.stdout + done.stderr
    document = json.loads(path.read_text())
    jsonschema.validate(document, VERIFY_SCHEMA)
    found: list[Document] = document["subjects"]
    return found


SUBJECTS = [BUILT_IN[0], *(pytest.param(name, marks=pytest.mark.repetition) for name in BUILT_IN[1:])]


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_built_in_subject_loses_nothing_anywhere(name: str, command: Command, tmp_path: Path) -> None:
    names = [word for name in RUNNING for word in ("--environment", name)]
    chosen = ("--subject", name, *names, "--adds", "50", "host/*/dynamic-now/*/*")
    subjects = verified(command, tmp_path / "out.json", *chosen)
    assert [subject["name"] for subject in subjects] == [name]
    for subject in subjects:
        assert (subject["result"], subject["defects"]) == ("PASS", [])
        assert (subject["totals"]["lost"], subject["totals"]["doubled"]) == (0, 0)
        words: dict[str, set[str]] = {name: set() for name in RUNNING}
        for cell in subject["phases"]["stages"]["found"]["cells"]:
            words[cell["id"].split("/")[3]].add(cell["result"])
        lacking = {name for name, seen in words.items() if "UNSUPPORTED" in seen}
        assert {name for name in lacking if not needed(name)} == {name for name in HAVE_LESS if not needed(name)}
        assert {name for name, seen in words.items() if XFAIL in seen} == {"seccomp-late", "seccomp-kill"}


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_built_in_subject_makes_progress_when_all_is_single_stepped(
    name: str, command: Command, tmp_path: Path
) -> None:
    globs = ("host/*/static-pie/*/*", "host/*/dynamic-now/*/process.after_unregister")
    subjects = verified(command, tmp_path / "out.json", "--subject", name, "--environment", STEPPED, *globs)
    assert [subject["name"] for subject in subjects] == [name]
    for subject in subjects:
        assert (subject["result"], subject["totals"]["fast"]) == ("PASS", 0)
        for cell in subject["phases"]["stages"]["found"]["cells"]:
            trial = cell["trial"]
            assert trial["stepped"] == trial["committed"] == trial["attempted"] == STEPPED_ADDS


@pytest.fixture(scope="module")
def teller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("teller")
    (directory / "tells.c").write_text(TELLS)
    subprocess.run(["cc", "-pthread", "-o", directory / "tells", directory / "tells.c"], check=True)
    return directory / "tells"


def last_words(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", TOLD)
def test_a_program_of_the_users_meets_the_same(name: str, teller: Path, command: Command, tmp_path: Path) -> None:
    require(name)
    done = command("exec", "--environment", name, "--", str(teller), "word", cwd=tmp_path)
    assert done.returncode == 7, done.stderr
    main, thread = last_words(done)
    assert main == f"{TOLD[name][0]} word {tmp_path}"
    assert thread == TOLD[name][1]


@pytest.mark.parametrize(("name", "ending"), [("seccomp-late", signal.SIGABRT), ("seccomp-kill", signal.SIGSYS)])
def test_a_program_of_the_users_ends_as_the_cells_do(
    name: str, ending: signal.Signals, teller: Path, command: Command
) -> None:
    done = command("exec", "--environment", name, "--", str(teller))
    assert done.returncode == -ending
    assert ("rseq registration failed" in done.stderr) == (name == "seccomp-late")


def test_single_stepping_passes_a_signal_on(command: Command) -> None:
    done = command("exec", "--environment", STEPPED, "--", "/bin/sh", "-c", "kill -TERM $$")
    assert done.returncode == -signal.SIGTERM


INTERRUPTED = ("valgrind", "gdb", "qemu-user", "secure", "strace", STEPPED)
"""Not gVisor: its sandbox gets the signal itself, and ends (137), whatever the program would do."""


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupt_from_the_terminal_is_the_programs(name: str) -> None:
    """A terminal sends it to all that stand around the program, too; the program has a handler."""
    require(name)
    sleeps = "for n in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done"  # a signal just before a `read` would not end it
    script = f"trap 'exit 9' INT; echo ready; {sleeps}; exit 1"
    words = [*COMMAND, "exec", "--environment", name, "--", "/bin/sh", "-c", script]
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a caller may have left it ignored
        os.execv(words[0], words)
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    status = os.waitpid(child, 0)[1]
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 9


@pytest.mark.parametrize("name", ["gvisor", "valgrind"])
def test_a_file_keeps_what_was_in_it(name: str, tmp_path: Path) -> None:
    require(name)
    path = tmp_path / "out"
    with path.open("w") as out:
        out.write("before\n")
        out.flush()
        for word in ("first", "second"):
            command = [*COMMAND, "exec", "--environment", name, "--", "/bin/echo", word]
            subprocess.run(command, stdout=out, stderr=out, check=True, timeout=300)
    assert path.read_text() == "before\nfirst\nsecond\n"


@pytest.mark.parametrize("name", ["gvisor", "valgrind"])
def test_a_file_that_is_shared_with_a_program_goes_on_where_it_went(name: str, tmp_path: Path) -> None:
    """As in a shell's script that is written to one file, and that reads from one."""
    require(name)
    words = " ".join((*COMMAND, "exec", "--environment", name, "--"))
    script = f"echo before; read first; {words} /bin/sh -c 'cat; exit 3'; echo $?; {words} /bin/true; echo after"
    with (tmp_path / "in").open("w+") as given, (tmp_path / "out").open("w") as out:
        given.write("first\nsecond\n")
        given.flush()
        given.seek(0)
        subprocess.run(["/bin/sh", "-c", script], stdin=given, stdout=out, stderr=out, check=True, timeout=300)
    assert (tmp_path / "out").read_text() == "before\nsecond\n3\nafter\n"


@pytest.mark.parametrize("name", [name for name in TOLD if name != STEPPED])
def test_words_and_variables_come_through(name: str, command: Command, tmp_path: Path) -> None:
    require(name)
    program = tmp_path / "a program"
    shutil.copy2("/usr/bin/printf", program)
    words = ["one two", "", "three\nfour", "*", "$HOME", "a'b", 'back\\slash"']
    own = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.check=1", "SHELL": "/bin/false"}
    for arguments, said in (
        ([str(program), "[%s]", *words], "".join(f"[{word}]" for word in words)),
        (["/usr/bin/printenv", "SHELL"], "/bin/false\n"),
    ):
        done = command("exec", "--environment", name, "--", *arguments, env=own)
        assert (done.returncode, done.stdout) == (0, said), done.stderr
    told = command("exec", "--environment", name, "--", "/usr/bin/printenv", "GLIBC_TUNABLES", env=own).stdout.strip()
    assert "glibc.malloc.check=1" in told.split(":") or name == "secure"  # there ld.so takes them away


STATIC = ("default", "seccomp-enosys", "gvisor", "valgrind", "gdb", "qemu-user", "secure", "strace", STEPPED)


@pytest.mark.parametrize("link", [["-static"], ["-static-pie"]])
def test_a_static_program_of_the_users(link: list[str], command: Command, tmp_path: Path) -> None:
    """It needs no libc of ours, and meets the same; only what is made by preloading is not to be had."""
    (tmp_path / "tells.c").write_text(TELLS)
    program = tmp_path / "tells"
    subprocess.run(["cc", "-pthread", *link, "-o", program, tmp_path / "tells.c"], check=True)
    for name in (name for name in STATIC if not needed(name)):
        done = command("exec", "--environment", name, "--", str(program), "word", cwd=tmp_path)
        assert (done.returncode, last_words(done)[0]) == (7, f"{TOLD[name][0]} word {tmp_path}"), (name, done.stderr)
    for name in ("self-registered", "seccomp-late", "static-tls-tight"):
        done = command("exec", "--environment", name, "--", str(program))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
        assert "is static: nothing can be preloaded into it" in done.stderr
    library = tmp_path / "library.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-nostdlib", "-o", library, tmp_path / "tells.c"], check=True)
    assert command("exec", "--", str(library)).returncode == 4


@pytest.mark.gdb
def test_an_interrupt_is_the_programs_under_a_debugger(command: Command) -> None:
    script = "trap 'echo interrupted' INT; kill -INT $$; echo behind; exit 4"
    done = command("exec", "--environment", "gdb", "--", "/bin/sh", "-c", script)
    assert (done.returncode, done.stdout) == (4, "interrupted\nbehind\n")


@pytest.mark.mirror
def test_a_libc_without_rseq_is_not_said_to_be_fooled(command: Command) -> None:
    for libc, said in (("musl-1.2.5", False), ("system", True)):
        done = command("run", "--libc", libc, "--environment", "seccomp-fake", "--link", "static", "executable.main")
        assert ("__rseq_size is positive though nothing is registered" in done.stdout) == said


@pytest.mark.parametrize("name", ["seccomp-late", "static-tls-tight"])
@pytest.mark.mirror
def test_what_is_preloaded_suits_the_libc(name: str, command: Command) -> None:
    """The object is built against the libc that the program gets."""
    done = command("exec", "--libc", "glibc-2.41", "--environment", name, "--", "/bin/echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr


def test_a_secure_program_takes_the_systems_libraries(command: Command) -> None:
    done = command("exec", "--libc", "glibc-2.41", "--environment", "secure", "--", "/bin/true")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_an_unknown_environment_is_one_sentence(command: Command) -> None:
    for arguments in (["run", "--environment", "moon"], ["exec", "--environment", "moon", "--", "/bin/true"]):
        done = command(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("rseq-matrix: unknown environment 'moon': known are default, tunable-off")


# --- planted defects


def test_a_missing_tool_makes_its_cells_unsupported_and_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    gdb = ENVIRONMENTS["gdb"]
    assert gdb.tool
    monkeypatch.setitem(ENVIRONMENTS, "gdb", replace(gdb, tool=replace(gdb.tool, name="no-such-debugger")))
    there = ready(build(), "gdb", ["dynamic-now"])
    assert "no no-such-debugger here; install it (Debian: apt install gdb" in there.hindrance


def test_a_surplus_that_is_not_exhausted_is_seen(command: Command) -> None:
    surplus = {**os.environ, "GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=262144"}
    done = command("exec", "--environment", "static-tls-tight", "--", "/bin/true", env=surplus)
    assert done.returncode == 1
    assert "the surplus of static TLS is not exhausted" in done.stderr


def test_an_environment_that_is_not_what_it_says_turns_cells_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the filter let rseq(2) through: the model was told of an answer, and the cells show another."""
    there = replace(ready(build(), "seccomp-enosys", ["dynamic-now"]))
    assert (there.answer, there.after_exec) == ("ENOSYS", "ENOSYS")
    fake = ready(build(), "seccomp-fake", ["dynamic-now"])
    assert fake.answer == "success"
    monkeypatch.setattr(readiness, "answer_word", lambda _: "present")
    monkeypatch.setitem(ENVIRONMENTS, "seccomp-enosys", replace(ENVIRONMENTS["seccomp-enosys"], sign=""))
    campaign = Campaign(Wanted(globs=("host/*/dynamic-now/seccomp-enosys/executable.main",)))
    target = next(iter(campaign.targets.values()))
    (finding,) = Runner(target.build, campaign.wanted.options).findings(campaign.processes)
    (judged,) = campaign.judge(finding)
    assert judged.result == FAIL
    assert "class: got unregistered, want registered" in judged.reason


def nowhere(_path: Path, start: Start) -> list[str]:
    """Start a program as a tool does that is not there."""
    return start.entered(*([f"log={start.log}"] if start.log else []))


@pytest.mark.parametrize("name", [name for name, environment in ENVIRONMENTS.items() if environment.sign])
def test_an_environment_that_is_not_there_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its filter, its tool or its object nothing differs from the default, and no cell would."""
    require(name)
    there = ENVIRONMENTS[name]
    assert ready(build(), name, ["dynamic-now"]).untrue == ""
    tool = replace(there.tool, command=nowhere) if there.tool else None
    preload = "rsm_needed.so" if there.preload else ""
    without = replace(there, tool=tool, preload=preload, steps=("output=save", "output=restore"))
    monkeypatch.setitem(ENVIRONMENTS, name, without)
    campaign = Campaign(Wanted(globs=(f"host/*/dynamic-now/{name}/executable.main",)))
    assert campaign.processes == []
    with Journal(campaign.identity(), resume=False) as journal:
        assert list(campaign.go(journal)) == []
        journal.discard()
    (cell,) = campaign.document().cells
    assert cell.result == "ERROR"
    assert cell.reason.startswith("the environment is not what it says: the first program in it saw present, ")
    with opened(build().directory / "subjects" / "split.so", "split", 0) as subject:
        found = work_at_stages(subject, system_target(), StagesRequest((cell.id,)), lambda _done, _total: None)
    assert found.problem.endswith(cell.reason)


def late(stage: str) -> Any:
    world = World("dynamic-now", ENVIRONMENTS["seccomp-late"].conditions, True, "present", True)
    return expectations(LIVES["threads"](world), world)[stage]


def ended(ending: str, complaints: str) -> Run:
    return cast(Run, SimpleNamespace(ending=ending, misbehaved=ending, complaints=complaints, records={}))


@pytest.mark.parametrize(
    ("ending", "complaints", "result"),
    [
        ("killed by SIGABRT", f"{FATAL.message}\n", XFAIL),
        ("killed by SIGABRT", "free(): invalid pointer", FAIL),
        ("killed by SIGSEGV", f"{FATAL.message}\n", FAIL),
        ("exit status 1", "", FAIL),
        ("", "", XPASS),
    ],
)
def test_only_the_expected_end_is_one(ending: str, complaints: str, result: str) -> None:
    cell = Cell("glibc-2.36", "dynamic-now", "seccomp-late", "thread.start", "threads")
    judged = judge(cell, late("thread.start"), ended(ending, complaints), {}, Identity("2.36", None))
    assert judged.result == result, judged.reason


def test_a_subject_that_never_gives_up_hangs_where_all_is_single_stepped(command: Command, tmp_path: Path) -> None:
    subject = compile_subject(BROKEN / "retries_for_ever.c", tmp_path)
    glob = f"host/*/dynamic-now/{STEPPED}/executable.quick_exit"
    (found,) = verified(command, tmp_path / "out.json", "--subject", str(subject), glob)
    assert [defect["name"] for defect in found["defects"]] == ["livelock"]


def test_where_nothing_may_be_traced_nothing_is_single_stepped(command: Command, deny: Path, tmp_path: Path) -> None:
    """What runs free there proves nothing of single steps: neither a pass nor a failure."""
    cell, path = f"host/*/dynamic-now/{STEPPED}/executable.quick_exit", tmp_path / "out.json"
    forbidden = [str(deny), "101", str(errno.EPERM)]
    for arguments in (("run", cell), ("verify", "--subject", "split", "--phase", "stages", cell)):
        done = command(*arguments, "--json", str(path), wrapper=forbidden)
        assert "ptrace is not permitted here (EPERM" in done.stdout
        document = json.loads(path.read_text())
        cells = document.get("cells") or document["subjects"][0]["phases"]["stages"]["found"]["cells"]
        assert [cell["result"] for cell in cells] == ["UNSUPPORTED"]
    done = command("exec", "--environment", STEPPED, "--", "/bin/echo", "free", wrapper=forbidden)
    assert (done.returncode, done.stdout) == (125, "")


@pytest.mark.parametrize("name", ["valgrind", "secure", "seccomp-late"])
def test_a_loss_in_an_environment_is_named(name: str, command: Command, tmp_path: Path) -> None:
    require(name)
    stage = "executable.atexit"
    subject = compile_subject(GOOD / "sabotaged.c", tmp_path, "-DLOSES", f"-DSTAGE={STAGES[stage].number}")
    glob = f"host/*/dynamic-now/{name}/executable.*"
    (found,) = verified(command, tmp_path / "out.json", "--subject", str(subject), glob)
    assert {(defect["name"], defect["where"].rpartition("/")[2]) for defect in found["defects"]} == {("lost", stage)}


def test_a_loss_before_an_expected_end_is_named(command: Command, tmp_path: Path) -> None:
    """This stage is passed through, and then the process ends, for the thread that is about to be created."""
    stage = "preload.interposed_function"
    subject = compile_subject(GOOD / "sabotaged.c", tmp_path, "-DLOSES", f"-DSTAGE={STAGES[stage].number}")
    glob = f"host/*/dynamic-now/seccomp-late/{stage}"
    (found,) = verified(command, tmp_path / "out.json", "--subject", str(subject), glob)
    assert [defect["name"] for defect in found["defects"]] == ["lost"]


def test_a_subject_with_a_run_path_is_not_had_in_a_secure_program(command: Command, tmp_path: Path) -> None:
    require("secure")
    subject = compile_subject(GOOD / "smallest.c", tmp_path, f"-Wl,-rpath,{tmp_path}")
    (found,) = verified(command, tmp_path / "out.json", "--subject", str(subject), "host/*/*/secure/executable.main")
    assert found["result"] == "UNSUPPORTED"
    assert "run path" in found["phases"]["stages"]["reason"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_secure_program_takes_no_root() -> None:
    """Without root it is a file capability that makes it one, in user namespaces."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "programs").mkdir()
        (place / SCRATCH).mkdir()
        shutil.copy2(build().directory / "dynamic-now" / "secure_mode", place / "programs")
        shutil.copy2(build().directory / "secure", place)
        shutil.copy2(build().directory / ENTER, place)
        secure = ENVIRONMENTS["secure"]
        command = started(secure, None, Start(["./secure_mode"], secure.variables, str(place / ENTER)))
        options: Any = {"user": 65534, "group": 65534, "extra_groups": []}
        done = subprocess.run(command, cwd=place / "programs", capture_output=True, check=False, **options)
        assert (done.returncode, done.stderr) == (0, b"")
        alone = subprocess.run(["./secure_mode"], cwd=place / "programs", check=False, **options)
        assert alone.returncode == 1


def test_enter_says_what_it_cannot_do() -> None:
    enter = str(build().directory / "enter")
    for arguments in (["wobble", "--", "--", "/bin/true"], ["--", "--"], ["filter=moon", "--", "--", "/bin/true"]):
        done = subprocess.run([enter, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    start = Start(["/bin/sh", "-c", "echo $WHO"], {"WHO": "a b=c"}, enter)
    done = subprocess.run(start.entered(), capture_output=True, text=True, check=False)
    assert done.stdout == "a b=c\n"
