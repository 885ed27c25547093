"""The built-in subjects in the places where per-CPU work goes wrong: their sums, and where they dare the fast path.

Each place is a run of helpers/subject_places.c. What the subjects do at the stages of the matrix, interrupted, stepped
and under stress is judged by `verify` itself.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import HELPERS, ROOT
from rseq_matrix.build import Build

PLACES = (
    "threads",
    "handler",
    "fork_child",
    "vfork_child",
    "vfork_child_enrolls",
    "vfork_fails",
    "clone_vm_child",
    "clone_vm_child_first",
    "raw_thread",
    "copied_tls",
    "unregistered",
    "early",
    "steady_fast",
    "steady_unregistered",
)
PLACES_WITHOUT_RSEQ = ("never_registered", "enrolled", "other_owner", "steady_fallback")
"""Where libc registers no areas."""
WITHOUT_RSEQ = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
CC = ("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11")
EARLY = ("-fPIC", "-shared", "-fno-stack-protector", "-ffreestanding")

Go = Callable[[str, Path], "subprocess.CompletedProcess[str]"]


def program_with(directory: Path, *flags: str) -> Go:
    """Compile the program; return a function that runs a place of it with a subject."""
    include, program, library = f"-I{ROOT / 'csrc'}", directory / "subject_places", directory / "subject_early.so"
    subprocess.run([*CC, *EARLY, include, "-o", library, HELPERS / "subject_early.c"], check=True)
    sources = [HELPERS / "subject_places.c", ROOT / "csrc" / "host" / "raw_thread.c"]
    linked = ["-pthread", "-ldl", "-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{directory}", *flags]
    subprocess.run([*CC, include, "-o", program, *sources, *linked], check=True)

    def run(place: str, subject: Path) -> subprocess.CompletedProcess[str]:
        environment = dict(WITHOUT_RSEQ) if place in PLACES_WITHOUT_RSEQ else {}
        command = [str(program), place]
        if place == "opened":
            command.append(str(subject))
        else:
            environment["LD_PRELOAD"] = str(subject)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Go:
    return program_with(tmp_path_factory.mktemp("places"))


@pytest.mark.parametrize("place", [*PLACES, *PLACES_WITHOUT_RSEQ, "opened"])
@pytest.mark.parametrize("name", ["split", "list"])
def test_a_subject_is_right_in_every_place(name: str, place: str, go: Go, built: Build) -> None:
    done = go(place, built.directory / "subjects" / f"{name}.so")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("place", ["handler", "never_registered"])
def test_the_subject_without_rseq_counts_right(place: str, go: Go, built: Build) -> None:
    done = go(place, built.directory / "subjects" / "atomic.so")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_place_that_does_not_exist_is_no_success(go: Go, built: Build) -> None:
    assert go("nowhere", built.directory / "subjects" / "split.so").returncode == 2


@pytest.mark.parametrize("tables", ["gnu", "sysv"])
def test_a_program_may_have_a_vfork_of_its_own(tables: str, built: Build, tmp_path: Path) -> None:
    """Its symbols are in one kind of hash table or the other; nothing may be remembered."""
    go = program_with(tmp_path, "-DOWN_VFORK", f"-Wl,--hash-style={tables}")
    split = built.directory / "subjects" / "split.so"
    for subject in (split, built.directory / "subjects" / "list.so"):
        done = go("vfork_child", subject)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert go("steady_fast", split).returncode == -9
    careless = planted((NOT_OLD if tables == "sysv" else NOT_NEW,), tmp_path)
    assert go("vfork_child", careless).returncode == 1


@dataclass(frozen=True)
class Planted:
    """A defect in a copy of csrc/subject: in `file`, `old` becomes `new`."""

    file: str
    old: str
    new: str
    name: str = "split"


VFORK = Planted("interposed.h", "void rsm_before_vfork(void)\n{\n    rsm_lend();", "void rsm_before_vfork(void)\n{")
CLONE = Planted("interposed.h", "    if (lends)\n        rsm_lend();", "")
CHILDREN_MISSED = Planted("interposed.h", "        rsm_children_missed = 1;\n        return;", "        return;")
NOT_LOOKED = Planted("interposed.h", "    if (rsm_readiness == RSM_EARLY)\n        rsm_leave_early();\n", "")
NOT_OLD = Planted("interposed.h", "i < hash[1]", "i < 0")
NOT_NEW = Planted("interposed.h", "rsm_dynamic_symbol(&tables, names[i]) != 0", "0")
ANYBODYS = Planted("interposed.h", "map->l_ld && rsm_makes_children(map)", "0")
BELIEVED = Planted("protection.h", "    if (!area || !rsm_watched(area, &rsm_libc_length)) {", "    if (!area) {")
NOT_OWN = Planted("protection.h", "rsm_readiness == RSM_EARLY ? 0 : rsm_enrolled_area()", "0")
NOT_KEPT = Planted("protection.h", "    thread->area = area;\n", "    return;\n")
TOO_EARLY = Planted("protection.h", "if (rsm_own_relocations_done())", "if (1)")
NOT_ATOMIC = Planted(
    "split.h",
    "__atomic_fetch_add(&rsm_split_shared.of[counter], n, __ATOMIC_RELAXED);",
    "uint64_t *to = &rsm_split_shared.of[counter], was = *to; for (volatile int i = 0; i < 20; i++); *to = was + n;",
)
TWICE = Planted("list.c", "mine->of[counter] += n;", "mine->of[counter] += n + !popped;", "list")

DEFECTS: dict[str, tuple[str, tuple[Planted, ...]]] = {
    "an answer is kept in the child of vfork()": ("vfork_child", (VFORK,)),
    "an answer is kept in the child of clone()": ("clone_vm_child", (CLONE,)),
    "a child before the first add is not noted": ("clone_vm_child_first", (CHILDREN_MISSED, NOT_LOOKED)),
    "an answer is kept whoever's vfork() is called": ("opened", (ANYBODYS,)),
    "cpu_id is believed in a raw thread": ("raw_thread", (BELIEVED,)),
    "cpu_id is believed in a child": ("vfork_child", (BELIEVED,)),
    "its own registration is not seen": ("unregistered", (NOT_OWN,)),
    "the kernel is asked at every add": ("steady_fast", (NOT_KEPT,)),
    "TLS is used before relocation": ("early", (TOO_EARLY,)),
    "its fallback is not atomic": ("never_registered", (NOT_ATOMIC,)),
    "an add counts twice": ("early", (TWICE,)),
}


def planted(defects: tuple[Planted, ...], directory: Path) -> Path:
    """Compile a subject with defects, as the build compiles it without."""
    shutil.copytree(ROOT / "csrc", directory / "csrc")
    for defect in defects:
        file = directory / "csrc" / "subject" / defect.file
        text = file.read_text()
        assert text.count(defect.old) == 1, defect
        file.write_text(text.replace(defect.old, defect.new))
    name, target = defects[0].name, directory / "subject.so"
    flags = [*EARLY, "-fvisibility=hidden", "-Wno-unused", f"-I{directory / 'csrc'}", "-Wl,-z,nodelete"]
    source = directory / "csrc" / "subject" / f"{name}.c"
    subprocess.run(["cc", "-O2", *flags, "-o", target, source], check=True)
    return target


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name: str, go: Go, tmp_path: Path) -> None:
    place, defects = DEFECTS[name]
    assert go(place, planted(defects, tmp_path)).returncode not in {0, 2}
