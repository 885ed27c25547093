"""What a built-in subject remembers of a thread stays right through what could make it wrong for an instant.

A signal handler adds after every instruction of vfork() and of clone(CLONE_VM); a TLS block is copied; stacks with an
area in them are used again and again. Each is seen to fail on a copy of the subject with the defect that it looks for.
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

Go = Callable[..., "subprocess.CompletedProcess[str]"]

WITHOUT_RSEQ = {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
EDGES: dict[str, dict[str, str]] = {
    "stepped_vfork": {},
    "stepped_clone": {},
    "copied_tls": {},
    "silent": {},
    "churn": WITHOUT_RSEQ,
    "enrolled_parent": WITHOUT_RSEQ,
}
"""The edges of helpers/subject_edges.c, and the environment of each."""
OF_LIST = ("stepped_vfork", "stepped_clone", "silent")
"""Those where no fallback comes before a fast path: list may have to take a node back from the stack that all share."""
CC = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11"]
SHARED = ["-fPIC", "-shared", "-fvisibility=hidden", "-fno-stack-protector", "-ffreestanding", "-fplt"]


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Go:
    """Return a function that runs an edge with a subject preloaded, or loaded by the program itself."""
    program = tmp_path_factory.mktemp("edges") / "subject_edges"
    sources = [f"-I{ROOT / 'csrc'}", str(HELPERS / "subject_edges.c"), "-o", str(program), "-pthread", "-ldl"]
    subprocess.run([*CC, *sources], check=True)

    def run(edge: str, subject: Path, preloaded: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(program), edge, *([] if preloaded else [str(subject)])]
        environment = {**EDGES[edge], **({"LD_PRELOAD": str(subject)} if preloaded else {})}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.mark.parametrize(("name", "edge"), [("split", edge) for edge in EDGES] + [("list", edge) for edge in OF_LIST])
def test_a_built_in_subject_is_right(name: str, edge: str, go: Go, built: Build) -> None:
    done = go(edge, built.directory / "subjects" / f"{name}.so")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_nothing_is_remembered_where_somebody_elses_vfork_is_called(go: Go, built: Build) -> None:
    """Loaded by dlopen() the subject comes after libc: it asks the kernel at every add, and that is what kills it."""
    done = go("silent", built.directory / "subjects" / "split.so", preloaded=False)
    assert done.returncode == -9, done.stdout


@dataclass(frozen=True)
class Planted:
    """A defect in a copy of csrc/subject: `old` becomes `new` in `file`, and `edge` is what finds it."""

    edge: str
    file: str
    old: str
    new: str


DEFECTS = {
    "any thread's answer is believed": Planted(
        "copied_tls",
        "protection.h",
        "__builtin_expect(thread->confirmed == (uint64_t)thread, 1)",
        "__builtin_expect(thread->confirmed && !(thread->confirmed & 1), 1)",
    ),
    "vfork() is not seen": Planted(
        "stepped_vfork",
        "interposed.h",
        "void rsm_before_vfork(void)\n{\n    rsm_lend();",
        "void rsm_before_vfork(void)\n{",
    ),
    "vfork() only forgets": Planted(
        "stepped_vfork",
        "interposed.h",
        "void rsm_before_vfork(void)\n{\n    rsm_lend();",
        "void rsm_before_vfork(void)\n{\n    if (rsm_readiness)\n        rsm_thread.confirmed = 0;",
    ),
    "clone() is not seen": Planted("stepped_clone", "interposed.h", "if (lends)\n", "if (0)\n"),
    "clone()'s child gives back": Planted("stepped_clone", "interposed.h", "(result < 0 || ", "(1 || result < 0 || "),
    "nothing is remembered": Planted("silent", "protection.h", "rsm_keep(rsm_this_thread(), area);", "(void)rsm_keep;"),
    "a child takes its parent's area": Planted("enrolled_parent", "told.h", "->confirmed & 1)", "->confirmed & 0)"),
    "the subject's own area is not found": Planted("churn", "protection.h", "0 : rsm_enrolled_area();", "0 : area;"),
}


def planted(defect: Planted, directory: Path) -> Path:
    """Compile a split with the defect."""
    shutil.copytree(ROOT / "csrc", directory / "csrc")
    source = directory / "csrc" / "subject" / defect.file
    text = source.read_text()
    assert text.count(defect.old) == 1, f"{defect.file} is not what the defect is planted into"
    source.write_text(text.replace(defect.old, defect.new))
    target = directory / "split.so"
    files = [f"-I{directory / 'csrc'}", str(directory / "csrc" / "subject" / "split.c"), "-o", str(target)]
    subprocess.run([*CC, *SHARED, "-fcf-protection=none", "-Wl,-z,nodelete", "-Wno-unused", *files], check=True)
    return target


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name: str, go: Go, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    done = go(defect.edge, planted(defect, tmp_path))
    assert done.returncode == (-9 if defect.edge == "silent" else 1), done.stdout
