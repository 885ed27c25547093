"""The source distribution, the wheel, and when an environment is renewed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path, PurePath

import pytest
from abi3info import DATAS, FUNCTIONS
from abi3info.models import PyVersion, Symbol
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from build_extension import put
from clones import checkout, fresh, need_index, run, tracked
from conftest import ROOT
from make_environment import cause
from rseq_matrix.sources import SOURCE_SUFFIXES, source_files

PACKAGE = "scripts/rseq_matrix/"
SOURCES = ("csrc/", "preload/", "auditlib/", "ifunc/")
EXTENSION = "rseq_matrix/_native.abi3.so"
OLDEST = PyVersion(3, 10)


@dataclass(frozen=True)
class Distribution:
    """What `python -m build` made of a fresh clone: the wheel is built from the sdist."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    place = tmp_path_factory.mktemp("distribution")
    tree = checkout(place / "tree")
    done = run([sys.executable, "-m", "build", "--outdir", str(place), str(tree)], fresh(place), place)
    need_index(done)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(tree)
    (sdist,), (wheel,) = place.glob("*.tar.gz"), place.glob("*.whl")
    return Distribution(sdist, wheel)


@pytest.mark.network
def test_the_sdist_is_what_git_tracks(distribution: Distribution) -> None:
    with tarfile.open(distribution.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == tracked() | {"PKG-INFO"}
    assert {"LICENSE", "README.md", "pyproject.toml", "scripts/build_extension.py"} <= names


def installed_as(path: str) -> str:
    return path.removeprefix("scripts/") if path.startswith(PACKAGE) else f"rseq_matrix/sources/{path}"


@pytest.mark.network
def test_the_wheel_has_every_module_schema_and_c_source_that_git_tracks(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
    files = {path for path in tracked() if path.startswith((PACKAGE, *SOURCES)) and PurePath(path).name[0] != "."}
    assert names == {installed_as(path) for path in files} | {EXTENSION}
    sources = {path for path in files if path.startswith(SOURCES) and PurePath(path).suffix in SOURCE_SUFFIXES}
    assert {path.relative_to(ROOT).as_posix() for path in source_files(ROOT)} == sources
    assert {PurePath(path).suffix for path in files} >= {".py", ".json", ".c", ".h", ".def", ".cmake"}


@pytest.mark.network
def test_one_wheel_is_for_every_python_from_the_oldest(distribution: Distribution) -> None:
    tag = f"cp310-abi3-{sysconfig.get_platform().replace('-', '_')}"
    assert distribution.wheel.name.endswith(f"-{tag}.whl")
    with zipfile.ZipFile(distribution.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        lines = archive.read(name).decode().splitlines()
    assert f"Tag: {tag}" in lines
    assert "Root-Is-Purelib: false" in lines


@pytest.mark.network
def test_the_extension_needs_only_the_stable_abi_of_the_oldest_python(
    distribution: Distribution, tmp_path: Path
) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        extension = Path(archive.extract(EXTENSION, tmp_path))
    with extension.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        undefined = {symbol.name for symbol in table.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF"}
    wanted = {name for name in undefined if name.startswith(("Py", "_Py"))}
    stable = {**FUNCTIONS, **DATAS}
    assert wanted
    assert {name for name in wanted if Symbol(name) not in stable or stable[Symbol(name)].added > OLDEST} == set()


def oldest_and_newest_python() -> dict[str, str]:
    """Return two of this Python, those on the PATH and those that are installed side by side with it, by version."""
    beside = Path(sys.base_prefix).parent.glob("*/bin/python3")
    found: dict[tuple[int, int], str] = {}
    for command in [sys.executable, *(f"python3.{minor}" for minor in range(10, 20)), *map(str, beside)]:
        code = "import sys; print(*sys.version_info[:2], sys.implementation.name)"
        try:
            done = subprocess.run([command, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        except OSError:
            continue
        major, minor, name = (done.stdout.split() or ["0", "0", "-"])[:3]
        if done.returncode == 0 and (int(major), int(minor)) >= (3, 10) and name == "cpython":
            found.setdefault((int(major), int(minor)), command)
    return {f"{major}.{minor}": found[major, minor] for major, minor in (min(found), max(found))}


@pytest.mark.network
def test_the_extension_is_imported_by_the_oldest_and_the_newest_python_here(
    distribution: Distribution, tmp_path: Path
) -> None:
    environment = fresh(tmp_path)
    for version, python in oldest_and_newest_python().items():
        target = tmp_path / version
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        pip += ["--target", str(target), "--python-version", version, "cffi", str(distribution.wheel)]
        done = run(pip, environment, tmp_path)
        need_index(done)
        assert done.returncode == 0, (version, done.stderr)
        code = "from rseq_matrix._native import lib; print(lib.rsm_stage_count)"
        done = run([python, "-S", "-c", code], {**environment, "PYTHONPATH": str(target)}, tmp_path)
        assert (done.returncode, int(done.stdout or 0) > 50) == (0, True), (version, done.stderr)


@pytest.mark.network
def test_the_wheel_runs_in_a_clean_environment_outside_a_checkout(distribution: Distribution, tmp_path: Path) -> None:
    environment = fresh(tmp_path)
    place = tmp_path / "elsewhere"
    place.mkdir()
    bin_directory = tmp_path / "env" / "bin"
    assert run([environment["PYTHON"], "-m", "venv", str(tmp_path / "env")], environment, place).returncode == 0
    done = run([str(bin_directory / "pip"), "install", "--quiet", str(distribution.wheel)], environment, place)
    need_index(done)
    assert done.returncode == 0, done.stderr
    done = run([str(bin_directory / "rseq-matrix"), "run", "--json", "out.json"], environment, place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " PASS, in " in done.stdout
    assert (place / "out.json").exists()
    code = "import sys, rseq_matrix.build as b; print(b.source_root()); print(*sys.path, sep='\\n')"
    root, *path = run([str(bin_directory / "python"), "-c", code], environment, place).stdout.splitlines()
    assert root.startswith(str(tmp_path / "env"))
    assert not [entry for entry in path if entry.startswith(str(ROOT))]


def test_the_extension_of_an_earlier_build_for_one_python_alone_does_not_stay(tmp_path: Path) -> None:
    package, module = tmp_path / "package", tmp_path / "_native.abi3.so"
    package.mkdir()
    for path in (package / f"_native{EXTENSION_SUFFIXES[0]}", package / module.name, module):
        path.write_text(str(path))
    put(module, package)
    assert [path.name for path in package.iterdir()] == [module.name]
    assert (package / module.name).read_text() == str(module)


class Environment:
    """A clone's environment, as it looks when it was set up just now; nothing is installed in it."""

    def __init__(self, place: Path) -> None:
        self.tree = checkout(place / "a tree")
        (self.tree / "build/native").mkdir(parents=True)
        shutil.copy(ROOT / "build/native/inputs", self.tree / "build/native/inputs")
        program = self.tree / ".venv/bin/rseq-matrix"
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
        self.mark = self.tree / ".venv/ready-run"
        self.mark.touch()
        self.asking = self.tree / "scripts/asking"
        self.asking.write_text('. "$(dirname -- "$0")/environment.sh"\nis_current run\n')

    def is_current(self) -> bool:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RSEQ_MATRIX")}
        return subprocess.run(["sh", self.asking], env=environment, check=False).returncode == 0

    def is_current_after_a_change_of(self, name: str) -> bool:
        path, before = self.tree / name, (self.tree / name).stat()
        os.utime(path, ns=(self.mark.stat().st_mtime_ns + 10**9,) * 2)
        current = self.is_current()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return current


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def what_the_compiler_reads() -> set[str]:
    """Return the sources and headers of the extension, as the preprocessor names them."""
    sources = [path for pattern in ("registry*.c", "native*.c") for path in ROOT.glob(f"csrc/**/{pattern}")]
    command = ["cc", "-MM", "-Icsrc", *(str(path.relative_to(ROOT)) for path in sources)]
    rules = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {os.path.normpath(word) for word in rules.replace("\\\n", " ").split() if not word.endswith(":")}


def test_an_environment_is_renewed_when_anything_changes_that_the_extension_is_made_of(
    environment: Environment,
) -> None:
    made_of = what_the_compiler_reads() | {p.relative_to(ROOT).as_posix() for p in ROOT.glob("csrc/**/*_layout.h")}
    made_of |= {"pyproject.toml", "scripts/build_extension.py"}
    assert {"csrc/verify/mailbox_layout.h", "csrc/verify/mailbox.h", "csrc/stages.def"} <= made_of
    assert environment.is_current()
    assert {name for name in made_of if environment.is_current_after_a_change_of(name)} == set()
    assert environment.is_current()


def test_an_environment_is_renewed_when_a_header_is_gone(environment: Environment) -> None:
    (environment.tree / "csrc/native_layout.h").unlink()
    assert not environment.is_current()


def test_an_environment_without_a_list_of_what_the_extension_is_made_of_is_renewed(environment: Environment) -> None:
    (environment.tree / "build/native/inputs").unlink()
    assert not environment.is_current()


def test_an_environment_stays_when_only_a_probe_changes(environment: Environment) -> None:
    assert environment.is_current_after_a_change_of("csrc/host/life.c")
    assert environment.is_current_after_a_change_of("scripts/rseq_matrix/cli.py")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("headers", ("Python's headers", "apt install python3-dev", "dnf install python3-devel", "add python3-dev")),
        ("venv", ("Python's venv and pip", "apt install python3-venv", "dnf install python3-pip", "add py3-pip")),
        ("libc", ("the C library's headers", "apt install libc6-dev", "dnf install glibc-devel", "add musl-dev")),
    ],
)
def test_the_first_command_names_the_package_that_is_missing(
    missing: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    tree = checkout(tmp_path / "tree")
    without = tmp_path / "without"
    without.mkdir()
    variables = {"PYTHONPATH": str(without)}
    if missing == "headers":
        patch = "import sysconfig\nsysconfig.get_paths = lambda: {'include': '/nowhere'}\n"
        (without / "sitecustomize.py").write_text(patch)
    elif missing == "venv":
        (without / "venv.py").write_text("raise SystemExit(1)\n")
    else:
        variables["CC"] = str(without / "cc")
        (without / "cc").write_text("#!/bin/sh\necho 'fatal error: stdio.h: No such file or directory' >&2\nexit 1\n")
        (without / "cc").chmod(0o755)
    done = run(["scripts/rseq-matrix", "stages"], fresh(tmp_path, **variables), tree)
    assert done.returncode == 3, done.stderr
    sentence = done.stderr.splitlines()[-1]
    for word in words:
        assert word in sentence


PIP_SAID = """\
  error: subprocess-exited-with-error

  Preparing editable metadata (pyproject.toml) did not run successfully.
  exit code: 1
  [60 lines of output]
      AttributeError: module 'hatchling.build' has no attribute 'prepare_metadata_for_build_editable'
      {cause}
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: metadata-generation-failed
"""


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: No matching distribution found for hatchling>=1.27",
        "csrc/native.c:41:1: error: expected declaration specifiers",
        "cffi.CDefError: only supports one of the following syntax:",
    ],
)
def test_the_cause_is_told_without_pips_frame(line: str) -> None:
    assert cause(PIP_SAID.format(cause=line)) == line


def test_pips_own_words_are_told_where_no_error_is_found_in_them() -> None:
    assert cause("  Killed\n") == "Killed"
