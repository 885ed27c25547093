"""Makes the crafted files: small ELF files of seven machines, from the sources in crafted/, sound or broken on purpose.

Files for this machine come from the system's compiler, those for the others from zig's (package ziglang), which has an
assembler, a linker and glibc's interface for each of them, but no static glibc: a static program has no libc at all
(crafted/start.h), unless it is said to be hosted. Without one it is also inspected much faster.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import run_command

SOURCES = Path(__file__).resolve().parent / "crafted"
NATIVE = "x86-64"
TARGETS = {
    "x86-64": "x86_64-linux-gnu",
    "i386": "x86-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf",
    "ppc64le": "powerpc64le-linux-gnu",
    "s390x": "s390x-linux-gnu",
    "riscv64": "riscv64-linux-gnu",
}
MACHINES = tuple(TARGETS)
GLIBC = "2.35"  # the first whose interface has __rseq_offset

KINDS = {
    "shared-object": ("-shared", "-fPIC"),
    "executable": ("-no-pie", "-fno-pie"),
    "pie": ("-pie", "-fPIE"),
    "static": ("-static", "-fno-pie"),
    "static-pie": ("-static-pie", "-fPIE"),
}
HOSTED = ("-DPROGRAM", "-DHOSTED")
ALONE = ("static", "static-pie")
WITHOUT_LIBC = ("-nostdlib", "-ffreestanding", "-DPROGRAM")
ALWAYS = ("-O2", "-g0", "-Wall", "-Wextra", "-Werror")
ZIG_FLAGS = {"-static-pie": ("-static", "-pie")}
ZIG_ALWAYS = ("-fno-sanitize=undefined", "-Wl,--no-gc-sections", "-Wno-unused-command-line-argument")

SECTION_DEFECTS: dict[str, tuple[str, ...]] = {
    "cs-alignment": ("-DOFF_ALIGNMENT=8",),
    "cs-version": ("-DVERSION=1",),
    "cs-flags": ("-DFLAGS=1",),
    "cs-start": ("-DSTART=.Ldata",),
    "cs-post-commit": ("-DLENGTH=0x10000000", "-DOPEN_END", "-DNO_EXITS", "-nostdlib"),
    "cs-abort": ("-DABORT=.Labort_in_data",),
    "cs-empty": ("-DLENGTH=0",),
    "cs-abort-inside": (
        "-DINSIDE=JUMP(2f); SIGNATURE_OPENING; .long SIGNATURE; .Linside: JUMP(2f); 2: JUMP(3f); 3:",
        "-DABORT=.Linside",
    ),
    "cs-signature": ("-DSIGNATURE_WORD=0x12345678",),
    "cs-system-call": ("-DINSIDE=SYSTEM_CALL",),
    "cs-call": ("-DINSIDE=CALL(callee)",),
    "cs-branch": ("-DINSIDE=BRANCH(.Lelsewhere)",),
    "cs-undecodable": ("-DINSIDE=UNDECODABLE",),
    "cs-table-missing": ("-DSECOND_DESCRIPTOR",),
    "cs-table-doubled": ("-DPOINTERS=POINTER(.Ldescriptor); POINTER(.Ldescriptor)",),
    "cs-table-foreign": ("-DPOINTERS=POINTER(.Ldescriptor); POINTER(.Ldata)",),
    "cs-exit-foreign": ("-DEXITS=POINTER(START); POINTER(.Lexit); POINTER(callee); POINTER(.Lexit)",),
    "cs-no-table": ("-DNO_POINTERS",),
    "cs-no-sections": ("-DNO_DESCRIPTOR", "-DNO_POINTERS", "-DNO_EXITS"),
}
"""What breaks section.S for each rule."""


@dataclass(frozen=True)
class Recipe:
    """One file to make. A static program has libc in it only where `hosted`; the compiler's `options` come last."""

    source: str
    options: tuple[str, ...] = ()
    machine: str = NATIVE
    kind: str = "shared-object"
    hosted: bool = False

    @property
    def by_zig(self) -> bool:
        """Return whether zig makes it."""
        return self.machine != NATIVE or platform.machine() != "x86_64"


def _zig() -> list[str]:
    found = importlib.util.find_spec("ziglang")
    assert found is not None
    assert found.origin is not None
    return [str(Path(found.origin).parent / "zig"), "cc"]


def arguments(recipe: Recipe) -> list[str]:
    """Return the compiler's command line, without the output."""
    kind = [*KINDS[recipe.kind]]
    if recipe.kind != "shared-object":
        kind += HOSTED if recipe.hosted or recipe.kind not in ALONE else WITHOUT_LIBC
    if not any("stack-protector" in option for option in recipe.options):
        kind.append("-fno-stack-protector")  # not always: zig takes it for the last word
    source = str(SOURCES / recipe.source)
    if not recipe.by_zig:
        return ["cc", *ALWAYS, *kind, source, *recipe.options]
    kind = [word for flag in kind for word in ZIG_FLAGS.get(flag, (flag,))]
    target = ["-target", f"{TARGETS[recipe.machine]}.{GLIBC}"]
    return [*_zig(), *target, *ALWAYS, *ZIG_ALWAYS, *kind, source, *recipe.options]


def make(recipe: Recipe, output: Path) -> Path:
    """Make one file. What the compiler says against it fails the test."""
    output.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*arguments(recipe), "-o", str(output)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{recipe}\n{done.stderr}"
    return output


def make_all(recipes: Iterable[Recipe], directory: Path) -> dict[Recipe, Path]:
    """Make many files, as many at once as there are processors."""
    wanted = list(dict.fromkeys(recipes))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        paths = pool.map(lambda pair: make(pair[1], directory / f"{pair[0]}"), enumerate(wanted))
        return dict(zip(wanted, paths, strict=True))


def inspect(paths: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """Return what `rseq-matrix inspect` says of each file, from one call of it."""
    done = run_command("inspect", *map(str, paths), "--json", "-")
    assert done.returncode in (0, 1), done.stderr
    document = json.loads(done.stdout)
    assert document["unreadable"] == []
    return {Path(file["path"]): file for file in document["files"]}


def inspect_all(recipes: Iterable[Recipe], directory: Path) -> dict[Recipe, dict[str, Any]]:
    """Make and inspect many files."""
    made = make_all(recipes, directory)
    inspected = inspect(made.values())
    return {recipe: inspected[path] for recipe, path in made.items()}


class Inspected:
    """Tells what inspect says of a file. All files of a machine are made and inspected at the first question about one.

    `recipes` gives them by machine. What goes wrong with one fails every question about its machine, at once.
    """

    def __init__(self, recipes: Callable[[str], Iterable[Recipe]], directory: Path) -> None:
        self._recipes = recipes
        self._directory = directory
        self._known: dict[str, dict[Recipe, dict[str, Any]] | AssertionError] = {}

    def __call__(self, recipe: Recipe) -> dict[str, Any]:
        """Return the file's entry in the document."""
        machine = recipe.machine
        if machine not in self._known:
            try:
                self._known[machine] = inspect_all(self._recipes(machine), self._directory / machine)
            except AssertionError as error:
                self._known[machine] = error
        known = self._known[machine]
        if isinstance(known, AssertionError):
            raise AssertionError(str(known))
        return known[recipe]
