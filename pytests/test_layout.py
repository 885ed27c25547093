"""The picture of static TLS, against what programs say about their own variables."""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from moments import comes
from rseq_matrix.documents.layout import LaidOutThread, LayoutDocument, StructPthread
from rseq_matrix.documents.plain import plain
from rseq_matrix.documents.reading import read
from rseq_matrix.errors import InputError, MissingError
from rseq_matrix.layout import dwarf, findings, picture
from rseq_matrix.layout.blocks import abi_offset
from rseq_matrix.layout.picture import of_process, of_program
from rseq_matrix.ptrace import tasks
from rseq_matrix.ptrace.objects import MappedSegment
from rseq_matrix.ptrace.seize import seized
from rseq_matrix.report import layout as report
from rseq_matrix.report.layout import CHARACTER

HELPERS = Path(__file__).resolve().parent / "helpers"
SCHEMA = json.loads(
    (Path(__file__).resolve().parent.parent / "scripts/rseq_matrix/schema/layout-1.json").read_text(encoding="utf-8")
)
SIZES = (0, 1, 31, 32, 4096, 65536)
ALIGNMENTS = (1, 8, 32, 64, 512, 4096)
PTRACE, EPERM = "101", "1"
TUNABLE_OFF = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}

OTHER_PTHREAD = "struct pthread { long list[90]; void *robust_head[3]; char rseq_area[32]; } pthread;\n"

Document = dict[str, Any]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return the function that builds the program, with a library if that has a size; each once."""
    directory = tmp_path_factory.mktemp("layout")

    def cc(*arguments: str) -> None:
        flags = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-pedantic"]
        subprocess.run([*flags, *arguments], check=True, timeout=120)

    def go(size: int = 8, alignment: int = 8, library: tuple[int, int] | None = None, link: str = "") -> Path:
        program = directory / f"p-{size}-{alignment}-{library}{link}".replace(" ", "")
        if program.exists():
            return program
        extra = [link] if link else []
        if library:
            path = directory / f"lib-{library[0]}-{library[1]}.so"
            defines = [f"-DLIBRARY_SIZE={library[0]}", f"-DLIBRARY_ALIGNMENT={library[1]}"]
            cc(*defines, "-shared", "-fPIC", "-o", str(path), str(HELPERS / "tls_library.c"))
            extra += ["-Wl,--no-as-needed", str(path)]
        cc(f"-DSIZE={size}", f"-DALIGNMENT={alignment}", "-o", str(program), str(HELPERS / "tls_program.c"), *extra)
        return program

    return go


@dataclass
class Waiting:
    """A program that waits, and what it said."""

    process: subprocess.Popen[str]
    said: dict[str, list[int]]


@contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def waiting(program: Path, *what: str, environment: dict[str, str] | None = None) -> Iterator[Waiting]:
    pipe = subprocess.PIPE
    variables = os.environ | (environment or {})
    with subprocess.Popen([program, *what], stdin=pipe, stdout=pipe, text=True, env=variables) as process:
        assert process.stdout is not None
        lines = [line.split() for line in itertools.takewhile(lambda line: line != "ready\n", process.stdout)]
        try:
            yield Waiting(process, {name: [int(value) for value in values] for name, *values in lines})
        finally:
            process.kill()


def document_of(pid: int) -> Document:
    found: Document = plain(of_process(pid).document())
    jsonschema.validate(found, SCHEMA)
    return found


def started(*argv: str | Path) -> Document:
    found: Document = plain(of_program([str(word) for word in argv]).document())
    jsonschema.validate(found, SCHEMA)
    return found


def judge(threads: Sequence[Document]) -> list[Document]:
    found: list[Document] = plain(findings.judge([read(LaidOutThread, thread) for thread in threads]))
    return found


def notes(threads: Sequence[Document], unplaced: Sequence[str]) -> list[Document]:
    found: list[Document] = plain(findings.notes([read(LaidOutThread, thread) for thread in threads], unplaced))
    return found


def show_layout(console: Console, document: Document) -> None:
    report.show_layout(console, read(LayoutDocument, document))


def to_svg(document: Document) -> str:
    return report.to_svg(read(LayoutDocument, document))


def block(thread: Document, kind: str, name: str = "") -> Document:
    found = [b for b in thread["blocks"] if b["kind"] == kind and name in b["name"]]
    assert len(found) == 1, thread["blocks"]
    return dict(found[0])


def errors(document: Document) -> list[str]:
    return [finding["id"] for finding in document["findings"] if finding["severity"] == "error"]


def state(pid: int) -> str:
    return tasks.stat_fields(Path(f"/proc/{pid}"))[0]


def agrees(document: Document, program: Path, said: dict[str, list[int]], size: int, alignment: int) -> None:
    """Compare the picture with what the program said about itself."""
    assert errors(document) == []
    for thread in document["threads"]:
        names = [b["name"] for b in thread["blocks"]]
        if size:
            own = block(thread, "tls", program.name)
            assert own["offset"] <= said["program"][0] < said["program"][0] + size <= own["offset"] + own["size"]
            assert own["alignment"] >= alignment
            if "libc.so.6" in names:  # a dynamic program's block holds nothing but its variable
                assert (own["offset"], own["size"]) == (said["program"][0], size)
        if "library" in said:
            library = block(thread, "tls", "lib-")
            assert library["offset"] == said["library"][0]
        if "rseq" in said:
            assert [thread["rseq"]["offset"], thread["rseq"]["feature_size"]] == said["rseq"]
            assert thread["rseq"]["kernel"]["address"] == thread["thread_pointer"] + said["rseq"][0]
        tiles(thread)


def tiles(thread: Document) -> None:
    """Check that blocks and padding cover the span without a hole and without meeting."""
    outer = [b for b in thread["blocks"] if b["kind"] != "rseq" or thread["rseq"]["where"] == "unknown"]
    for one, other in itertools.pairwise(outer):
        if one["size"] is not None:
            assert one["offset"] + one["size"] == other["offset"], thread["blocks"]


# --- against the programs' own word


@pytest.mark.ptrace
@pytest.mark.parametrize("size", SIZES)
def test_dynamic(make: Make, size: int) -> None:
    for index, alignment in enumerate(ALIGNMENTS):
        library = (SIZES[-1 - SIZES.index(size)] or 33, ALIGNMENTS[-1 - index])
        program = make(size, alignment, library)
        with waiting(program, "thread") as it:
            document = document_of(it.process.pid)
        assert len(document["threads"]) == 2
        assert document["threads"][0]["thread_pointer"] == it.said["pointer"][0]
        agrees(document, program, it.said, size, alignment)
        assert block(document["threads"][0], "tls", "lib-")["size"] == library[0]


@pytest.mark.ptrace
@pytest.mark.parametrize(("size", "alignment"), [*zip(SIZES, reversed(ALIGNMENTS), strict=True)])
def test_started(make: Make, size: int, alignment: int) -> None:
    program = make(size, alignment, (31, 256))
    with waiting(program) as it:
        pass
    document = started(program)
    assert document["moment"] == "entry"
    agrees(document, program, it.said, size, alignment)


@pytest.mark.ptrace
@pytest.mark.libc_a
@pytest.mark.parametrize("link", ["-static", "-static-pie"])
def test_static(make: Make, link: str) -> None:
    for size, alignment in [*zip(SIZES, ALIGNMENTS, strict=True), (31, 4096), (65536, 1), (1, 512)]:
        program = make(size, alignment, None, link)
        with waiting(program, "thread") as it:
            document = document_of(it.process.pid)
        agrees(document, program, it.said, size, alignment)
        document = started(program)
        assert document["moment"] == "main"
        agrees(document, program, it.said, size, alignment)


@pytest.mark.ptrace
@pytest.mark.libc_a
def test_stripped_static(make: Make, tmp_path: Path) -> None:
    """The kernel and the program headers are all that tells; what cannot be known is not claimed."""
    program = tmp_path / "stripped"
    subprocess.run(["strip", "-o", program, make(31, 4096, None, "-static")], check=True)
    with waiting(program) as it:
        document = document_of(it.process.pid)
    (thread,) = document["threads"]
    assert block(thread, "tls")["offset"] <= it.said["program"][0] < 0
    assert block(thread, "tcb")["size"] is None
    assert thread["rseq"]["offset"] == it.said["rseq"][0]
    assert thread["rseq"]["where"] == ("unknown" if it.said["rseq"][0] >= 0 else "extra TLS")
    assert started(program)["moment"] == "rseq"


@pytest.mark.ptrace
@pytest.mark.libc_a
def test_stripped_static_without_rseq(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "stripped"
    subprocess.run(["strip", "-o", program, make(31, 64, None, "-static")], check=True)
    monkeypatch.setenv("GLIBC_TUNABLES", TUNABLE_OFF["GLIBC_TUNABLES"])
    document = started(program)
    assert document["moment"] == "tls"
    assert document["threads"][0]["rseq"] is None
    assert errors(document) == []


@pytest.mark.ptrace
def test_several_threads_and_a_main_thread_that_ended(make: Make) -> None:
    with waiting(make(), "thread", "thread", "thread") as it:
        document = document_of(it.process.pid)
        assert len({thread["thread_pointer"] for thread in document["threads"]}) == 4
        assert errors(document) == []
    with waiting(make(), "leave") as it:
        assert comes(lambda: state(it.process.pid) == "Z")
        document = document_of(it.process.pid)
        assert [t["tid"] == it.process.pid for t in document["threads"]] == [False]
        assert errors(document) == []


@pytest.mark.ptrace
def test_through_the_loader(make: Make) -> None:
    """ld.so that was started itself: the program is the one that it loads."""
    program = make(32, 512, (32, 32))
    loader = next(Path("/lib64").glob("ld-linux-x86-64.so.2"), None)
    if loader is None:
        pytest.skip("no /lib64/ld-linux-x86-64.so.2 here")
    with waiting(program) as it:
        pass
    document = started(loader, program)
    assert document["moment"] == "entry"
    agrees(document, program, it.said, 32, 512)


def test_abi_offset_is_the_nearest_place_with_room() -> None:
    for size, alignment, address in itertools.product((1, 31, 32, 4096), (1, 8, 64, 4096), (0, 8, 40, 4104)):
        at = abi_offset(MappedSegment(7, 4, 0, address, 0, size, alignment))
        assert at % alignment == address % alignment
        assert at + size <= 0 < at + size + alignment


# --- debug information


@pytest.mark.ptrace
@pytest.mark.libc_dbg
def test_dwarf_agrees(make: Make) -> None:
    document = started(make())
    (thread,) = document["threads"]
    found = thread["rseq"]["dwarf"]
    if found is None and not any(Path("/", dwarf.DIRECTORY).rglob("*.debug")):
        pytest.skip("no debug information of libc (Debian: libc6-dbg)")
    assert found is not None
    assert found["size"] == block(thread, "tcb")["size"]
    assert found["offset"] == (thread["rseq"]["offset"] if thread["rseq"]["where"] == "struct pthread" else None)
    assert errors(document) == []


def test_a_damaged_debug_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.debug"
    for content in (b"", b"\x7fELF", b"\x7fELF" + bytes(60), Path(sys.executable).read_bytes()[:3000]):
        path.write_bytes(content)
        dwarf.read_file.cache_clear()
        assert dwarf.read_file(path) is None
    assert dwarf.read_file(tmp_path / "missing") is None


def test_struct_pthread_of_somebody_else_is_not_libcs(tmp_path: Path) -> None:
    source, program = tmp_path / "x.c", tmp_path / "x"
    source.write_text("struct pthread { int rseq_area; } p; int main(void) { return p.rseq_area; }\n")
    subprocess.run(["cc", "-g", "-o", program, source], check=True)
    assert dwarf.read_file(program) is None
    dwarf.read_file.cache_clear()
    source.write_text(OTHER_PTHREAD)
    subprocess.run(["cc", "-g", "-shared", "-o", program, source], check=True)
    found = dwarf.read_file(program)
    assert found is not None
    assert (found.member, found.offset, found.size) == ("rseq_area", 744, 776)


# --- every finding has been seen: in real processes


@pytest.mark.ptrace
def test_unregistered_is_stale(make: Make) -> None:
    with waiting(make(), "unregister") as it:
        document = document_of(it.process.pid)
    assert errors(document) == ["layout-rseq-stale"]
    assert document["threads"][0]["rseq"]["kernel"] is None


@pytest.mark.ptrace
def test_raw_thread_is_stale(make: Make) -> None:
    with waiting(make(), "raw-thread") as it:
        document = document_of(it.process.pid)
    (finding,) = document["findings"]
    assert finding["id"] == "layout-rseq-stale"
    assert "fast path" in finding["sentence"]
    assert finding["where"] == f"thread {document['threads'][1]['tid']}"


@pytest.mark.ptrace
def test_registered_elsewhere_contradicts_libc(make: Make) -> None:
    program = make()
    with waiting(program, "register-elsewhere") as it:
        document = document_of(it.process.pid)
    assert errors(document) == ["layout-rseq-offset"]
    assert any(program.name in b["name"] for b in document["threads"][0]["blocks"] if b["kind"] == "rseq")


@pytest.mark.ptrace
def test_own_area_with_libc_switched_off(make: Make) -> None:
    with waiting(make(), "register-own", environment=TUNABLE_OFF) as it:
        document = document_of(it.process.pid)
    assert errors(document) == []
    (thread,) = document["threads"]
    assert thread["rseq"]["where"] == "own"
    assert thread["rseq"]["feature_size"] == 0
    assert "registered by p-8-8" in block(thread, "rseq", "own area")["name"]
    with waiting(make(), environment=TUNABLE_OFF) as it:
        assert document_of(it.process.pid)["threads"][0]["rseq"]["where"] == "none"


@pytest.mark.ptrace
def test_moved_dtv(make: Make) -> None:
    with waiting(make(64, 64), "move-dtv") as it:
        assert errors(document_of(it.process.pid)) == ["layout-dtv"]


@pytest.mark.ptrace
def test_lying_program_headers(make: Make) -> None:
    with waiting(make(64, 64), "lie-alignment") as it:
        assert errors(document_of(it.process.pid)) == ["layout-block-misaligned"]
    with waiting(make(64, 64), "lie-size") as it:
        found = errors(document_of(it.process.pid))
        assert "layout-block-overlap" in found
        where = document_of(it.process.pid)["threads"][0]["rseq"]["where"]
        assert ("layout-rseq-overlap" in found) == (where == "struct pthread")


@pytest.mark.ptrace
def test_debug_information_that_disagrees(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A debug file that goes by libc's build id and has another struct pthread."""
    source, made = tmp_path / "x.c", tmp_path / "made"
    source.write_text(OTHER_PTHREAD)
    subprocess.run(["cc", "-g", "-shared", "-o", made, source], check=True)

    def find(build_ids: Sequence[str], roots: Sequence[Path]) -> StructPthread | None:
        assert Path("/") in roots
        path = tmp_path / dwarf.DIRECTORY / build_ids[0][:2] / f"{build_ids[0][2:]}.debug"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.read_bytes())
        return dwarf.find_struct_pthread(build_ids, [tmp_path])

    monkeypatch.setattr(picture, "find_struct_pthread", find)
    assert set(errors(started(make()))) == {"layout-dwarf"}


# --- and in doctored geometry


def good_thread() -> Document:
    """Return a thread with everything in order."""

    def piece(name: str, kind: str, offset: int, size: int, alignment: int) -> Document:
        values = {"name": name, "kind": kind, "offset": offset, "size": size, "alignment": alignment}
        return values | {"phase": 0, "dtv_offset": offset if kind == "tls" else None}

    blocks = [
        piece("libx.so", "tls", -512, 256, 256),
        piece("program", "tls", -64, 64, 64),
        piece("TCB (struct pthread)", "tcb", 0, 2368, 64),
        piece("rseq area", "rseq", 2336, 32, 32),
    ]
    pointer = 0x7F0000001000
    rseq = {
        "offset": 2336,
        "size": 32,
        "alignment": 32,
        "feature_size": 20,
        "flags": 0,
        "kernel": {"address": pointer + 2336, "size": 32, "signature": 0x53053053, "flags": 0},
        "unasked": None,
        "cpu_id": 0,
        "where": "struct pthread",
        "dwarf": {"file": "x.debug", "size": 2368, "member": "rseq_area", "offset": 2336},
    }
    return {"tid": 1, "thread_pointer": pointer, "starting": False, "blocks": blocks, "rseq": rseq}


def move_rseq(thread: Document, offset: int, where: str, alignment: int = 32) -> None:
    thread["blocks"][3]["offset"] = thread["rseq"]["offset"] = offset
    thread["rseq"]["kernel"]["address"] = thread["thread_pointer"] + offset
    thread["rseq"].update(where=where, alignment=alignment)
    thread["rseq"]["dwarf"] = None


def no_kernel(thread: Document) -> None:
    thread["rseq"]["kernel"] = None


def start(thread: Document) -> None:
    no_kernel(thread)
    thread["starting"] = True


OWN_BESIDE_LIBC = {"feature_size": 0, "kernel": {"address": 1 << 40, "size": 32, "signature": 1, "flags": 0}}
PLANTS: dict[str, tuple[Callable[[Document], None], list[str]]] = {
    "nothing": (lambda _: None, []),
    "in a TLS block": (lambda t: move_rseq(t, -512 + 32, "extra TLS"), ["layout-rseq-overlap"]),
    "across a block's end": (lambda t: move_rseq(t, -288, "extra TLS"), ["layout-rseq-overlap"]),
    "behind a block": (lambda t: move_rseq(t, -256, "extra TLS"), []),
    "across the TCB's end": (
        lambda t: move_rseq(t, 2352, "struct pthread"),
        ["layout-rseq-overlap", "layout-rseq-misaligned"],
    ),
    "own area in a TLS block": (lambda t: move_rseq(t, -64, "own"), []),
    "own area across its end": (lambda t: move_rseq(t, -544, "own"), []),
    "own area over the edge": (lambda t: move_rseq(t, -528, "own"), ["layout-rseq-overlap", "layout-rseq-misaligned"]),
    "misaligned": (lambda t: move_rseq(t, 2328, "struct pthread"), ["layout-rseq-misaligned"]),
    "misaligned for a large area": (lambda t: move_rseq(t, -608, "extra TLS", 64), ["layout-rseq-misaligned"]),
    "kernel elsewhere": (lambda t: t["rseq"]["kernel"].update(address=1 << 40), ["layout-rseq-offset"]),
    "kernel elsewhere, libc off": (lambda t: t["rseq"].update(OWN_BESIDE_LIBC), []),
    "stale": (no_kernel, ["layout-rseq-stale"]),
    "stale, but only just starting": (start, []),
    "kernel not asked": (lambda t: t["rseq"].update(kernel=None, unasked="EIO"), []),
    "block misaligned": (lambda t: t["blocks"][1].update(alignment=8192), ["layout-block-misaligned"]),
    "block out of phase": (lambda t: t["blocks"][1].update(phase=8), ["layout-block-misaligned"]),
    "blocks overlap": (lambda t: t["blocks"][0].update(size=512), ["layout-block-overlap"]),
    "block reaches into the TCB": (lambda t: t["blocks"][1].update(size=65), ["layout-block-overlap"]),
    "dtv": (lambda t: t["blocks"][1].update(dtv_offset=-128), ["layout-dtv"]),
    "dwarf offset": (lambda t: t["rseq"]["dwarf"].update(offset=2304), ["layout-dwarf"]),
    "dwarf has no member": (lambda t: t["rseq"]["dwarf"].update(member=None, offset=None), ["layout-dwarf"]),
    "dwarf size": (lambda t: t["rseq"]["dwarf"].update(size=2304), ["layout-dwarf"]),
    "no rseq": (lambda t: t.update(rseq=None), []),
    "TCB of unknown size": (lambda t: t["blocks"][2].update(size=None), []),
}


@pytest.mark.parametrize("name", PLANTS)
def test_planted(name: str) -> None:
    plant, expected = PLANTS[name]
    thread = good_thread()
    plant(thread)
    found = judge([thread])
    assert sorted(f["id"] for f in found) == sorted(expected)
    for finding in found:
        jsonschema.validate(finding, SCHEMA["$defs"]["finding"] | {"$defs": SCHEMA["$defs"]})
        assert finding["where"] == "thread 1"


def test_dwarf_of_extra_tls() -> None:
    """From glibc 2.41 on struct pthread has no such member."""
    thread = good_thread()
    move_rseq(thread, -544, "extra TLS")
    thread["rseq"]["dwarf"] = {"file": "x.debug", "size": 2368, "member": None, "offset": None}
    assert judge([thread]) == []
    thread["rseq"]["dwarf"] = {"file": "x.debug", "size": 2368, "member": "rseq_area", "offset": 2336}
    assert [f["id"] for f in judge([thread])] == ["layout-dwarf"]


def test_a_finding_is_said_once() -> None:
    threads = []
    for tid in range(1, 8):
        thread = good_thread() | {"tid": tid}
        no_kernel(thread)
        threads.append(thread)
    (finding,) = judge(threads)
    assert finding["where"] == "threads 1, 2, 3, 4 and 3 more"


def test_keys_keep_their_order() -> None:
    thread = good_thread()
    document: Document = {
        "schema": 1,
        "program": "x",
        "pid": 1,
        "moment": "attached",
        "threads": [thread],
        "elsewhere": [],
    }
    document["findings"] = notes([], ["libx.so"])
    assert json.dumps(plain(read(LayoutDocument, document))) == json.dumps(document)
    assert [list(f) for f in document["findings"]] == [["id", "severity", "sentence", "reference", "where"]]


def test_notes() -> None:
    bare = good_thread() | {"blocks": [], "rseq": None}
    silent = good_thread()
    silent["rseq"]["unasked"] = "EIO"
    found = notes([bare, silent], ["libx.so"])
    assert [f["id"] for f in found] == ["layout-unplaced", "layout-kernel-silent", "layout-no-thread-pointer"]
    assert {f["severity"] for f in found} == {"note"}


# --- nothing is left behind


def untouched(pid: int, expected: str) -> None:
    assert comes(lambda: state(pid) == expected)
    for task in Path(f"/proc/{pid}/task").iterdir():
        assert tasks.status_field(task, "TracerPid") == "0"


@pytest.mark.ptrace
def test_the_process_goes_on_as_it_was(make: Make) -> None:
    with waiting(make(), "thread") as it:
        pid = it.process.pid
        document_of(pid)
        untouched(pid, "S")
        os.kill(pid, signal.SIGSTOP)
        untouched(pid, "T")
        document_of(pid)
        untouched(pid, "T")
        os.kill(pid, signal.SIGCONT)
        untouched(pid, "S")
        assert it.process.stdin is not None
        it.process.stdin.close()
        assert it.process.wait(120) == 0  # nobody else took its end


CHURN = """
#include <pthread.h>
static void *nothing(void *unused) { return unused; }
static void *churn(void *unused)
{
    for (;;) {
        pthread_t thread;
        if (pthread_create(&thread, 0, nothing, 0) == 0)
            pthread_join(thread, 0);
    }
    return unused;
}
int main(void) { pthread_t thread; pthread_create(&thread, 0, churn, 0); churn(0); }
"""


@pytest.mark.ptrace
def test_threads_that_come_and_go(tmp_path: Path) -> None:
    """A thread that is only just starting, or ending, is not a finding, and none is forgotten."""
    source, program = tmp_path / "x.c", tmp_path / "x"
    source.write_text(CHURN)
    subprocess.run(["cc", "-O1", "-pthread", "-o", program, source], check=True)
    with running(program) as process:
        assert comes(lambda: len(list(Path(f"/proc/{process.pid}/task").iterdir())) > 1)
        for _ in range(20):
            document = document_of(process.pid)
            assert {2, 3, 4} >= {len(document["threads"])}
            assert errors(document) == []
        time.sleep(0.05)
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            assert tasks.status_field(task, "TracerPid") in ("0", "")
        assert state(process.pid) in "RS"
        process.kill()
        assert process.wait(5) == -signal.SIGKILL  # no thread is kept


@pytest.mark.ptrace
def test_a_signal_on_its_way_is_not_lost(make: Make) -> None:
    with waiting(make()) as it:
        with seized(it.process.pid):
            it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(10) == -signal.SIGTERM


@pytest.mark.ptrace
def test_killed_while_it_is_held(make: Make) -> None:
    with waiting(make(), "thread", "thread") as it:
        with seized(it.process.pid):
            it.process.kill()
        assert it.process.wait(5) == -signal.SIGKILL


def run_interrupted(code: str, *arguments: str | int) -> int:
    """Run Python code, press Ctrl-C when it says that it is there, and return how it ended."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        return process.wait(120)


@pytest.mark.ptrace
def test_interruption_lets_go(make: Make) -> None:
    code = (
        "import sys, time\nfrom rseq_matrix.ptrace.seize import seized\n"
        "with seized(int(sys.argv[1])):\n    print('there', flush=True)\n    time.sleep(60)\n"
    )
    with waiting(make(), "thread") as it:
        assert run_interrupted(code, it.process.pid) != 0
        untouched(it.process.pid, "S")


@pytest.mark.ptrace
def test_interruption_ends_what_was_started(make: Make, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import sys, time, pathlib\nfrom rseq_matrix.layout.started import started_program\n"
        "with started_program([sys.argv[1]]) as started:\n"
        "    pathlib.Path(sys.argv[2]).write_text(str(started.pid))\n"
        "    print('there', flush=True)\n    time.sleep(60)\n"
    )
    assert run_interrupted(code, str(make()), str(pid_file)) != 0
    assert not Path(f"/proc/{pid_file.read_text()}").exists()


@pytest.mark.ptrace
def test_what_was_started_is_gone(make: Make) -> None:
    document = started(make())
    assert not Path(f"/proc/{document['pid']}").exists()


BUSY_CONSTRUCTOR = """
#include <pthread.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>
static void *wait_for_ever(void *unused) { for (;;) pause(); return unused; }
__attribute__((constructor)) static void start(void)
{
    pthread_t thread;
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    FILE *file = fopen(PLACE, "w");
    fprintf(file, "%d", (int)child);
    fclose(file);
    pthread_create(&thread, 0, wait_for_ever, 0);
    pthread_create(&thread, 0, wait_for_ever, 0);
}
"""


@pytest.mark.ptrace
def test_threads_and_children_of_a_constructor(tmp_path: Path) -> None:
    """A library's constructors run before the program's entry point."""
    source, library, program = tmp_path / "x.c", tmp_path / "libx.so", tmp_path / "x"
    place = tmp_path / "pid"
    source.write_text(BUSY_CONSTRUCTOR)
    subprocess.run(["cc", "-shared", "-fPIC", f'-DPLACE="{place}"', "-o", library, source], check=True)
    subprocess.run(["cc", "-o", program, HELPERS / "tls_program.c", "-Wl,--no-as-needed", library], check=True)
    document = started(program)
    assert len(document["threads"]) == 3
    assert errors(document) == []
    assert tasks.living_tasks(int(place.read_text())) == []  # or a zombie that its new parent has yet to see


# --- bad input


def refused(call: Callable[[], object], kind: type[Exception], word: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_process() -> None:
    for pid in (-1, 0, 1 << 22 | 1):
        refused(lambda pid=pid: of_process(pid), InputError, "no process")  # type: ignore[misc]


def test_zombie() -> None:
    with subprocess.Popen(["true"]) as process:
        assert comes(lambda: state(process.pid) == "Z")
        refused(lambda: of_process(process.pid), InputError, "zombie")


def test_kernel_thread() -> None:
    if not int(tasks.stat_fields(Path("/proc/2"))[6] if Path("/proc/2").exists() else 0) & 0x00200000:
        pytest.skip("no thread of the kernel is visible here")
    refused(lambda: of_process(2), InputError, "kernel")


def test_itself() -> None:
    refused(lambda: of_process(os.getpid()), InputError, "itself")


@pytest.mark.ptrace
def test_traced_already(make: Make) -> None:
    with waiting(make()) as it:
        code = (
            "import sys, time\nfrom rseq_matrix.ptrace.seize import seized\n"
            "with seized(int(sys.argv[1])):\n    print('there', flush=True)\n    time.sleep(60)\n"
        )
        command = [sys.executable, "-c", code, str(it.process.pid)]
        with running(*command) as other:
            assert other.stdout is not None
            other.stdout.readline()
            refused(lambda: of_process(it.process.pid), InputError, f"traced by process {other.pid}")


@pytest.mark.ptrace
def test_another_users_process(make: Make) -> None:
    """Root becomes nobody for it, in a process of its own, and makes itself traceable again (PR_SET_DUMPABLE)."""
    if os.geteuid() != 0:
        refused(lambda: of_process(1), InputError, "belongs to user 0")
        return
    code = (
        "import ctypes, os, sys\nfrom rseq_matrix.layout.picture import of_process\n"
        "os.setuid(65534)\nctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"
        "try: of_process(int(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    with waiting(make()) as it:
        done = subprocess.run(
            [sys.executable, "-c", code, str(it.process.pid)], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.stdout.startswith("InputError"), done
        assert "belongs to user 0" in done.stdout
        untouched(it.process.pid, "S")


def test_tracing_denied(deny: Path, make: Make) -> None:
    """A container that denies ptrace is a missing feature, not a bad process."""
    code = (
        "import sys\nfrom rseq_matrix.layout.picture import of_process, of_program\n"
        "try: of_program(sys.argv[1:]) if '/' in sys.argv[1] else of_process(int(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    with waiting(make()) as it:
        for target in (str(it.process.pid), str(make())):
            command = [str(deny), PTRACE, EPERM, sys.executable, "-c", code, target]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            assert done.stdout.startswith(MissingError.__name__), done
            assert "Traceback" not in done.stderr


def elf32() -> bytes:
    """Return a 32-bit program for i386: pause() for ever."""
    code = bytes.fromhex("b81d000000cd80ebf7")  # mov $29, %eax; int $0x80; jmp back
    base, at = 0x08048000, 52 + 32
    header = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    for value, width in ((2, 2), (3, 2), (1, 4), (base + at, 4), (52, 4), (0, 4), (0, 4)):
        header += value.to_bytes(width, "little")
    for value in (52, 32, 1, 40, 0, 0):
        header += value.to_bytes(2, "little")
    segment = b"".join(v.to_bytes(4, "little") for v in (1, 0, base, base, at + len(code), at + len(code), 5, 4096))
    return header + segment + code


@pytest.mark.ptrace
def test_32_bit(tmp_path: Path) -> None:
    program = tmp_path / "i386"
    program.write_bytes(elf32())
    program.chmod(0o755)
    refused(lambda: of_program([str(program)]), InputError, "i386")
    try:
        with running(program) as process:
            refused(lambda: of_process(process.pid), InputError, "32-bit")
            untouched(process.pid, "S")
    except OSError:
        pytest.skip("this kernel runs no 32-bit programs")


def test_programs_that_cannot_be_started(tmp_path: Path) -> None:
    refused(lambda: of_program([]), InputError, "no program")
    refused(lambda: of_program(["no-such-program-here"]), InputError, "PATH")
    refused(lambda: of_program([str(tmp_path / "missing")]), InputError, "no such file")
    refused(lambda: of_program([str(tmp_path)]), InputError, str(tmp_path))
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    refused(lambda: of_program([str(script)]), InputError, "not an ELF file")
    program = tmp_path / "cut"
    program.write_bytes(Path("/bin/true").read_bytes()[:5000])
    program.chmod(0o755)
    refused(lambda: of_program([str(program)]), InputError, str(program))


@pytest.mark.ptrace
def test_a_library_that_ends_the_program(tmp_path: Path) -> None:
    source, library, program = tmp_path / "x.c", tmp_path / "libx.so", tmp_path / "x"
    source.write_text("#include <unistd.h>\n__attribute__((constructor)) static void end(void) { _exit(0); }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    subprocess.run(["cc", "-o", program, HELPERS / "tls_program.c", "-Wl,--no-as-needed", library], check=True)
    document = started(program)
    assert document["moment"] == "exit"
    assert errors(document) == []


@pytest.mark.ptrace
def test_programs_that_do_not_get_there(tmp_path: Path, make: Make) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(make().read_bytes())
    refused(lambda: of_program([str(plain)]), InputError, "Permission denied")
    alone = tmp_path / "alone"
    library = tmp_path / "liba.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, HELPERS / "tls_library.c"], check=True)
    subprocess.run(
        ["cc", "-o", alone, HELPERS / "tls_program.c", "-Wl,--no-as-needed", "-L", tmp_path, "-la"], check=True
    )
    alone.chmod(alone.stat().st_mode | stat.S_IXUSR)
    refused(lambda: of_program([str(alone)]), InputError, "error while loading shared libraries")


# --- text and SVG


@pytest.fixture(scope="module")
def drawn(make: Make) -> Document:
    with waiting(make(65536, 4096, (31, 64)), "thread", "raw-thread") as it:
        return document_of(it.process.pid)


@pytest.mark.ptrace
def test_text(drawn: Document) -> None:
    for encoding in ("utf-8", "ascii"):
        raw = io.BytesIO()
        console = Console(file=io.TextIOWrapper(raw, encoding=encoding), width=100)
        show_layout(console, drawn)
        console.file.flush()
        text = raw.getvalue().decode(encoding)
        for thread in drawn["threads"]:
            assert str(thread["tid"]) in text
            assert hex(thread["thread_pointer"]) in text
            for piece in thread["blocks"]:
                assert f"{piece['offset']:+d}" in text
        assert "layout-rseq-stale" in text
        assert "TP" in text


def boxes_of_text(root: ET.Element) -> list[tuple[float, float, float, float, str]]:
    found = []
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        text, x, y = element.text or "", float(element.attrib["x"]), float(element.attrib["y"])
        width = len(text) * CHARACTER
        left = x - width if element.attrib["text-anchor"] == "end" else x
        found.append((left, y - 11, left + width, y + 3, text))
    return found


def svg_is_readable(svg: str) -> ET.Element:
    root = ET.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    labels = boxes_of_text(root)
    for one, other in itertools.combinations(labels, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    for left, top, right, bottom, text in labels:
        assert left >= 0, text
        assert top >= 0, text
        assert right <= width, text
        assert bottom <= height, text
    return root


@pytest.mark.ptrace
def test_svg(drawn: Document) -> None:
    root = svg_is_readable(to_svg(drawn))
    text = " ".join(label[4] for label in boxes_of_text(root))
    for thread in drawn["threads"]:
        for piece in thread["blocks"]:
            assert f"{piece['offset']:+d}" in text
    assert "rseq area" in text
    assert "to scale" in text


def test_svg_of_awkward_names() -> None:
    thread = good_thread()
    thread["blocks"][0]["name"] = "<&\"'\x07\ud800>" + "x" * 300
    far = copy.deepcopy(thread["blocks"][3]) | {"name": "own area (registered by [heap])", "offset": -(1 << 44)}
    thread["blocks"].insert(0, far)
    document = {"program": "/a&b", "pid": 1, "moment": "attached", "threads": [thread], "elsewhere": ["z.so"]}
    root = svg_is_readable(to_svg(document | {"findings": judge([thread])}))
    assert any("far away" in label[4] for label in boxes_of_text(root))
    assert any("z.so" in label[4] for label in boxes_of_text(root))


def test_svg_is_to_scale_between_its_limits() -> None:
    thread = good_thread()
    document = {"program": "x", "pid": 1, "moment": "attached", "threads": [thread], "elsewhere": [], "findings": []}
    heights = {
        (e[0].text or "").partition(" at ")[0]: float(e[1].attrib["height"])
        for e in ET.fromstring(to_svg(document)).iter("{http://www.w3.org/2000/svg}g")
    }
    assert heights["TLS of libx.so"] == 4 * heights["TLS of program"]
