"""`rseq-matrix inspect` as a person types it: files, directories, bad input, the picture, what an early end keeps."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import COMMAND, ROOT, run_command
from crafting import Recipe, make
from moments import children, comes, is_asleep, is_gone, spent
from rseq_matrix.build import Build
from rseq_matrix.lint import inspection
from rseq_matrix.lint.inspection import (
    READ,
    UNREADABLE,
    FileOutcome,
    InspectedFile,
    attempt,
    find,
    inspection_document,
    outcomes,
)
from rseq_matrix.lint.rules import RULES
from rseq_matrix.lint.surplus import Surplus

SCHEMAS = ROOT / "scripts" / "rseq_matrix" / "schema"
Document = dict[str, Any]


def schema(name: str) -> Document:
    found: Document = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    return found


def inspected(*arguments: str | Path) -> Document:
    """Return the document of a call that succeeds, valid by its schema."""
    done = run_command("inspect", *map(str, arguments), "--json", "-")
    assert done.returncode in (0, 1), done.stderr
    document: Document = json.loads(done.stdout)
    jsonschema.validate(document, schema("inspect-1.json"))
    return document


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a sound file, a bad one, and all that lies about in directories."""
    directory = tmp_path_factory.mktemp("tree")
    make(Recipe("section.S"), directory / "good.so")
    make(Recipe("section.S", ("-DVERSION=1",)), directory / "below" / "bad.so")
    raw = (directory / "good.so").read_bytes()
    (directory / "truncated.so").write_bytes(raw[:3000])
    (directory / "header.so").write_bytes(raw[:30])
    (directory / "text").write_text("not ELF\n")
    (directory / "empty").touch()
    (directory / "object.o").write_bytes(raw[:16] + b"\x01\0" + raw[18:])
    (directory / "mips.so").write_bytes(raw[:18] + b"\x08\0" + raw[20:])
    (directory / "link.so").symlink_to("good.so")
    (directory / "dangling.so").symlink_to("nowhere")
    (directory / "loop").symlink_to(".")
    os.mkfifo(directory / "fifo")
    os.link(directory / "good.so", directory / "same.so")
    return directory


# --- directories


def test_a_directory_goes_on_past_what_is_damaged(tree: Path) -> None:
    document = inspected(tree)
    assert [Path(file["path"]).name for file in document["files"]] == ["bad.so", "good.so"]
    assert [Path(file["path"]).name for file in document["unreadable"]] == ["header.so", "truncated.so"]
    assert [Path(file["path"]).name for file in document["skipped"]] == ["mips.so"]
    assert document["summary"] == {
        "files": 2,
        "unreadable": 2,
        "skipped": 1,
        "findings": {"error": 1, "warning": 0, "note": 0},
    }
    assert all("\n" not in refused["reason"] for refused in document["unreadable"])


def test_the_summary_says_what_a_person_needs(tree: Path) -> None:
    done = run_command("inspect", str(tree))
    assert done.returncode == 1
    for words in (
        "error cs-version",
        "bad.so",
        "truncated.so: not read: truncated",
        "1 passed over",
        "can I dlopen it?",
    ):
        assert words in done.stdout
    assert "Traceback" not in done.stderr


def test_a_file_is_read_once_whatever_names_it(tree: Path) -> None:
    found = find([str(tree / "link.so"), str(tree), str(tree / "good.so")])
    assert [target.path for target in found if "good" in target.path or "link" in target.path] == [
        str(tree / "link.so")
    ]
    assert [target.path for target in found if "same" in target.path] == []


def test_side_by_side_is_the_same_as_one_by_one(tree: Path) -> None:
    one, two = (inspected(tree, "--jobs", jobs) for jobs in ("1", "2"))
    assert one == two


def test_a_directory_without_a_program_is_bad_input(tmp_path: Path) -> None:
    done = run_command("inspect", str(tmp_path))
    assert (done.returncode, done.stdout) == (4, "")
    assert "no ELF program or shared object" in done.stderr


@pytest.mark.parametrize(
    ("link", "program"),
    [
        ("dynamic-now", ""),
        ("static", "life"),
        *(pytest.param(link, "", marks=pytest.mark.repetition) for link in ("dynamic-lazy", "static", "static-pie")),
    ],
)
def test_the_matrixs_own_objects_are_clean(link: str, program: str, built: Build) -> None:
    """All of a link's, or one program: those that are static have all of libc's code to be read."""
    if link in built.unsupported:
        pytest.skip(built.unsupported[link])
    document = inspected(built.directory / link / program)
    assert len(document["files"]) >= (1 if program else 8)
    takes_tls = "/rsm_tls_"  # that is what they are for: csrc/library/tls_block.c
    own = [file for file in document["files"] if takes_tls not in file["path"]]
    assert [finding["sentence"] for file in own for finding in file["findings"]] == []
    sections = [section for file in document["files"] for section in file["critical_sections"]["sections"]]
    assert len(sections) >= (1 if program else 8)
    assert document["unreadable"] == []


def test_the_python_extension_and_the_tracer_are_clean(built: Build) -> None:
    extension = sys.modules["rseq_matrix._native"].__file__
    assert extension
    document = inspected(built.directory / "tracer", extension)
    assert [file["findings"] for file in document["files"]] == [[], []]


# --- bad input


BAD = {
    "text": "not an ELF file",
    "empty": "not an ELF file",
    "truncated.so": "truncated",
    "header.so": "truncated",
    "object.o": "an object file not yet linked",
    "mips.so": "known machines are",
    "fifo": "not a regular file",
    "missing": "no such file",
    "dangling.so": "no such file",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_one_sentence_and_exit_4(name: str, tree: Path) -> None:
    done = run_command("inspect", str(tree / name))
    assert done.returncode == 4
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert str(tree / name) in line
    assert BAD[name].lower() in line.lower()


def test_what_was_good_is_told_beside_the_bad(tree: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    done = run_command("inspect", str(tree / "good.so"), str(tree / "text"), "--json", str(output))
    assert done.returncode == 4
    document = json.loads(output.read_text())
    assert [Path(file["path"]).name for file in document["files"]] == ["good.so"]
    assert [Path(file["path"]).name for file in document["unreadable"]] == ["text"]


def test_a_file_that_may_not_be_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so that the answer is planted."""

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    (outcome,) = outcomes([InspectedFile(str(tree / "good.so"), False)])
    assert (outcome.kind, outcome.document["reason"]) == (UNREADABLE, "permission denied")


def test_a_directory_member_that_vanished(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = InspectedFile(str(tree / "gone.so"), False)
    monkeypatch.setattr(inspection, "_in_directory", lambda _path: [gone, InspectedFile(str(tree / "good.so"), False)])
    kinds = {outcome.target.path: outcome.kind for outcome in outcomes(find([str(tree)]))}
    assert kinds == {gone.path: UNREADABLE, str(tree / "good.so"): READ}


def test_names_of_any_bytes(tree: Path, tmp_path: Path) -> None:
    raw = (tree / "good.so").read_bytes()
    names = [b"\xff.so", b"[red]x.so", b"new\nline\x1b.so"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(raw)
    document = json.loads(run_command("inspect", str(tmp_path), "--json", "-").stdout)
    assert sorted(os.fsencode(Path(file["path"]).name) for file in document["files"]) == sorted(names)
    (tmp_path / "bad\n\x1b.so").write_bytes(raw[:100])
    done = run_command("inspect", str(tmp_path / "bad\n\x1b.so"))
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)
    assert "\x1b" not in done.stderr


def test_a_segment_that_is_a_hole_of_gigabytes(tree: Path, tmp_path: Path) -> None:
    """It costs nothing on disk, and neither its memory nor more than some seconds here."""
    raw = bytearray((tree / "good.so").read_bytes())
    table, count = int.from_bytes(raw[32:40], "little"), int.from_bytes(raw[56:58], "little")
    stack = next(at for at in range(table, table + 56 * count, 56) if raw[at : at + 4] == b"\x51\xe5\x74\x64")
    place, size = 0x100000, 3 << 30
    raw[stack : stack + 56] = struct.pack("<IIQQQQQQ", 1, 5, place, place, place, size, size, 0x1000)
    path = tmp_path / "hole.so"
    path.write_bytes(raw)
    os.truncate(path, place + size)
    code = (
        "import resource, sys\nfrom rseq_matrix.lint.inspection import inspect_file\n"
        "notes = inspect_file(sys.argv[1])['notes']\n"
        "print(len(notes), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=300, check=True)
    notes, memory = map(int, done.stdout.split())
    assert memory < 512 << 10
    assert notes >= 1


USAGE = {
    "nothing to inspect": [],
    "two modes": ["--rules", "--process", "1"],
    "a file beside a mode": ["--process", "1", "/bin/true"],
    "no program": ["--layout"],
    "svg of a file": ["/bin/true", "--svg", "x.svg"],
    "two machines on standard output": ["--process", "1", "--json", "-", "--svg", "-"],
    "a directory that is not there": ["/bin/true", "--json", "/nonexistent/x.json"],
    "a pid that is none": ["--process", "x"],
    "a tunable that is none": ["/bin/true", "--tunables", "nonsense"],
    "a number that is none": ["/bin/true", "--tunables", "glibc.rtld.nns=many"],
    "a number out of range": ["/bin/true", "--tunables", "glibc.rtld.nns=17"],
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE)
def test_usage(arguments: list[str]) -> None:
    done = run_command("inspect", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1


# --- what is kept


def die(target: InspectedFile, surplus: Surplus) -> FileOutcome:
    """Read like attempt(), but for one file whose reader is killed."""
    if target.path.endswith("bad.so"):
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt(target, surplus)


def test_a_reader_that_dies_costs_its_own_file_only(tree: Path) -> None:
    found = list(outcomes(find([str(tree)]), jobs=2, reader=die))
    document = inspection_document(found)
    assert [Path(file["path"]).name for file in document["files"]] == ["good.so"]
    reasons = {Path(file["path"]).name: file["reason"] for file in document["unreadable"]}
    assert "died" in reasons["bad.so"]
    assert set(reasons) == {"bad.so", "header.so", "truncated.so"}


SOME_FILES = 5.0
"""Seconds of processor time in which two workers start and have read some of 3000 files, and by far not all."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_finished(number: signal.Signals, tree: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    raw = (tree / "good.so").read_bytes()
    for n in range(3000):
        (many / f"{n}.so").write_bytes(raw)
    output = tmp_path / "out.json"
    command = [*COMMAND, "inspect", str(many), "--jobs", "2", "--json", str(output)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert comes(lambda: sum(map(spent, children(process.pid))) > SOME_FILES)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 5, stderr
    assert "files were inspected" in stderr
    assert "Traceback" not in stderr
    document = json.loads(output.read_text())
    jsonschema.validate(document, schema("inspect-1.json"))
    assert document["complete"] is False
    assert 0 < len(document["files"]) < 3000
    assert "interrupted; " in stdout


@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.6, 0.8])
def test_an_interruption_of_the_start(seconds: float, tree: Path) -> None:
    """Also while extension modules are imported. A terminal sends it to all processes of the group.

    The seconds are the program's own: on a busy machine it has come as far only later.
    """
    with subprocess.Popen(
        [*COMMAND, "inspect", str(tree)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert comes(lambda: spent(process.pid) >= seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode in (5, 1), stderr  # 1: it was done before
    assert "Traceback" not in stderr
    assert len(stderr.strip().splitlines()) <= 1


def test_workers_end_when_their_parent_is_killed(tree: Path, tmp_path: Path) -> None:
    raw = (tree / "good.so").read_bytes()
    for n in range(3000):
        (tmp_path / f"{n}.so").write_bytes(raw)
    with subprocess.Popen([*COMMAND, "inspect", str(tmp_path), "--jobs", "2"], start_new_session=True) as process:
        assert comes(lambda: len(children(process.pid)) >= 2)
        workers = children(process.pid)
        process.kill()
        process.wait()
    assert comes(lambda: all(map(is_gone, workers))), workers


# --- answers


def answers(path: Path) -> Document:
    found: Document = inspected(path)["files"][0]["answers"]
    return {question: answer["answer"] for question, answer in found.items()}


@pytest.mark.skipif(Recipe("").by_zig, reason="the linker of zig does not know -z nodlopen")
def test_what_may_not_be_opened_is_no_audit_module_either(tmp_path: Path) -> None:
    plain = answers(make(Recipe("audit.c"), tmp_path / "plain.so"))
    marked = answers(make(Recipe("audit.c", ("-Wl,-z,nodlopen",)), tmp_path / "marked.so"))
    assert (plain["dlopen"], plain["audit"]) == ("yes", "yes")
    assert (marked["dlopen"], marked["audit"]) == ("no", "no")


def test_static_tls_of_another_object_is_no_unconditional_yes(tmp_path: Path) -> None:
    owner = make(Recipe("tls_block.c", ("-DSIZE=4096", '-DMODEL="global-dynamic"')), tmp_path / "owner.so")
    source = tmp_path / "user.c"
    source.write_text(
        'extern __thread char crafted_block[] __attribute__((tls_model("initial-exec")));\n'
        "char *use(void);\nchar *use(void) { return crafted_block; }\n"
    )
    user = tmp_path / "user.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", user, source, owner], check=True)
    assert answers(user)["dlopen"] == "with care"
    assert answers(Path(find(["/proc/self/exe"])[0].path))["dlopen"] == "no"


# --- rules and tunables


def test_rules() -> None:
    done = run_command("inspect", "--rules")
    assert done.returncode == 0
    listed = json.loads(run_command("inspect", "--rules", "--json", "-").stdout)["rules"]
    assert [rule["id"] for rule in listed] == list(RULES)
    for rule in listed:
        assert rule["id"] in done.stdout
        assert rule["reference"]


@pytest.mark.parametrize(
    ("tunables", "fits"),
    [
        ("", False),
        ("glibc.malloc.check=3", False),
        ("glibc.rtld.optional_static_tls=3584", True),
        ("glibc.rtld.optional_static_tls=0xe00:glibc.pthread.rseq=0", True),
        ("glibc.rtld.nns=13", True),
        ("glibc.rtld.nns=1:glibc.rtld.optional_static_tls=3584", False),
    ],
)
def test_tunables_make_room(tunables: str, fits: bool, tmp_path: Path) -> None:
    """The block has 4096 bytes; the surplus is 288 for each namespace and the optional bytes."""
    library = make(Recipe("tls_block.c", ("-DSIZE=4096",)), tmp_path / "large.so")
    document = inspected(library, "--tunables", tunables)
    found = {finding["id"] for finding in document["files"][0]["findings"]}
    assert found == ({"tls-surplus"} if fits else {"tls-size"})
    assert document["files"][0]["answers"]["dlopen"]["answer"] == ("with care" if fits else "no")


def test_the_details_of_one_file(tree: Path) -> None:
    done = run_command("inspect", str(tree / "good.so"))
    assert done.returncode == 0
    for words in ("can I dlopen it?", "crafted_section", "abort handler crafted_abort", "0x53053053", "no findings"):
        assert words in done.stdout
    assert done.stdout.count("__rseq_cs 1, __rseq_cs_ptr_array 1, __rseq_exit_point_array 1") == 1


# --- the picture


@pytest.mark.ptrace
def test_the_picture_of_a_program_that_is_started(tmp_path: Path) -> None:
    svg, output = tmp_path / "picture.svg", tmp_path / "picture.json"
    done = run_command("inspect", "--svg", str(svg), "--json", str(output), "--layout", "--", sys.executable, "-c", "")
    assert done.returncode == 0, done.stderr
    jsonschema.validate(json.loads(output.read_text()), schema("layout-1.json"))
    assert ET.fromstring(svg.read_text()).tag.endswith("svg")
    assert "TP" in done.stdout
    assert "no overlap, no misalignment, all offsets agree" in done.stdout


@pytest.mark.ptrace
def test_the_picture_of_a_running_process() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert comes(lambda: is_asleep(process.pid, "sleep"))
        done = run_command("inspect", "--process", str(process.pid), "--json", "-")
        process.kill()
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema("layout-1.json"))
    assert document["pid"] == process.pid
    assert document["moment"] == "attached"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--process", "4194304"], "there is no process"),
        (["--layout", "--", "/no/such/program"], "no such file"),
        (["--layout", "--", "/etc/passwd"], "not an ELF file"),
    ],
)
def test_a_picture_that_cannot_be(arguments: list[str], words: str) -> None:
    done = run_command("inspect", *arguments)
    assert (done.returncode, done.stdout) == (4, "")
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
