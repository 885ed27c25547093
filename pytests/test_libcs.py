"""The libcs of the axis: how they are named, where they are found, what is said of those that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from conftest import Command
from rseq_matrix.build import Build, build
from rseq_matrix.errors import InputError, MissingError, UsageError
from rseq_matrix.libcs import mirror, specs
from rseq_matrix.libcs.compiler import find_compiler
from rseq_matrix.libcs.integration import integration
from rseq_matrix.libcs.packages import Package, _is_version
from rseq_matrix.libcs.roots import open_root, resolve
from rseq_matrix.libcs.store import store_directory
from rseq_matrix.libcs.toolchain import Toolchain, _linked_directory, toolchain
from rseq_matrix.matrix.libc import Libc
from rseq_matrix.matrix.targets import Target, _distinct
from rseq_matrix.model.stages import LINKS
from rseq_matrix.sources import source_root

SYSTEM = "glibc-2.36"
without_system = [name for name in specs.FETCHED if name.startswith("glibc") and name != SYSTEM]


def texts(arguments: list[str], globs: list[str]) -> list[str]:
    return [spec.text for spec in specs.choose(arguments, globs, SYSTEM)]


@pytest.mark.parametrize(
    ("arguments", "globs", "chosen"),
    [
        ([], [], ["system"]),
        ([], ["ifunc.*"], ["system"]),
        ([], ["host/*/*/*/ifunc.*"], ["system"]),
        ([], ["host/glibc-2.36/static/default/executable.main"], ["system"]),
        ([], ["host/glibc-2.31/static/default/executable.main"], ["glibc-2.31"]),
        ([], ["host/glibc-2.40/static/default/executable.main"], ["glibc-2.40"]),
        ([], ["host/glibc-2.4?/static/default/executable.main"], ["glibc-2.41", "glibc-2.43", "glibc-2.44"]),
        ([], ["host/glibc-2.[34]*/static/default/executable.main"], ["system", *without_system]),
        ([], ["host/glibc-*/*/*/*"], ["system", *without_system]),
        ([], ["host/?*/*/*/*"], ["system", *without_system, "musl-1.2.5"]),
        ([], ["host/glibc-2.3[6]/*/*/*"], ["system"]),
        ([], ["host/glibc-2.3?/*/*/*", "host/*/*/*/*"], ["system", "glibc-2.31"]),
        ([], ["ifunc.*", "host/musl-*/static/default/executable.main"], ["system", "musl-1.2.5"]),
        (["all"], [], list(specs.FETCHED)),
        (["glibc-2.31", "glibc-2.31", "system"], [], ["glibc-2.31", "system"]),
        (["system", "all"], ["host/glibc-2.31/*/*/*"], ["system", *specs.FETCHED]),
    ],
)
def test_choice_of_libcs(arguments: list[str], globs: list[str], chosen: list[str]) -> None:
    assert texts(arguments, globs) == chosen


@pytest.mark.parametrize("text", ["", "glibc", "glibc-", "glibc-2", "uclibc-1.0", "musl-x", "nosuchdirectory"])
def test_what_is_no_libc_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="unknown libc"):
        specs.parse(text)


def test_versions() -> None:
    assert Package("libc6", "2.31-13+deb11u11", "bullseye").upstream == "2.31"
    assert Package("musl", "1:1.2.5-3.1~deb13u1", "trixie").upstream == "1.2.5"
    assert _is_version("2.31", "2.31")
    assert _is_version("2.43+git20260101", "2.43")
    assert not _is_version("2.310", "2.31")
    assert not _is_version("2.3", "2.31")


DEB822 = """\
# a comment
Types: deb-src
URIs: http://sources.invalid/debian
Suites: bookworm

Types: deb
URIs: http://third.invalid/thing
Suites: nodistro
Components: main

Types: deb
# http://frozen.invalid/
URIs: http://mirror.invalid/debian http://second.invalid/debian
Suites: bookworm bookworm-updates
Components: main
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mirror, "SOURCES", tmp_path)
    monkeypatch.delenv(mirror.VARIABLE, raising=False)
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_mirror_of_a_deb822_file(sources: Path) -> None:
    (sources / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert mirror.mirror() == "http://mirror.invalid/debian"


def test_mirror_of_a_one_line_file(sources: Path) -> None:
    line = "deb http://third.invalid x main\ndeb [arch=amd64 signed-by=/x] http://lines.invalid/debian trixie main\n"
    (sources / "sources.list").write_text(line)
    assert mirror.mirror() == "http://lines.invalid/debian"


def test_mirror_of_the_environment(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sources / "sources.list.d" / "debian.sources").write_text(DEB822)
    monkeypatch.setenv(mirror.VARIABLE, "http://own.invalid/debian")
    assert mirror.mirror() == "http://own.invalid/debian"


def test_a_host_without_a_mirror(sources: Path) -> None:
    (sources / "sources.list.d" / "debian.sources").write_text(DEB822.replace("bookworm", "noble"))
    with pytest.raises(MissingError, match=mirror.VARIABLE):
        mirror.mirror()


# --- roots


@pytest.fixture
def loader(tmp_path: Path) -> Path:
    """Return a root that holds the system's loader and nothing else."""
    place = tmp_path / "root" / "lib64" / "ld-linux-x86-64.so.2"
    place.parent.mkdir(parents=True)
    shutil.copy("/lib64/ld-linux-x86-64.so.2", place)
    return place


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/lib/a").symlink_to("/lib/../../lib/b")
    (tmp_path / "usr/lib/b").write_text("found")
    (tmp_path / "round").symlink_to("round")
    found = resolve(tmp_path, tmp_path / "lib/a")
    assert found == tmp_path / "usr/lib/b"
    assert resolve(tmp_path, tmp_path / "round") is None
    assert resolve(tmp_path, tmp_path / "lib/none") is None


def test_a_directory_without_a_loader(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dynamic linker"):
        open_root(tmp_path)
    with pytest.raises(InputError, match="it is not a directory"):
        open_root(Path("/etc/passwd"))
    with pytest.raises(InputError, match="there is no such directory"):
        open_root(tmp_path / "none")


def test_a_loader_without_libc(loader: Path) -> None:
    with pytest.raises(InputError, match=r"but no libc\.so\.6"):
        open_root(loader.parent.parent)


def test_a_libc_for_another_machine(loader: Path) -> None:
    content = bytearray(loader.read_bytes())
    content[18] = 183  # e_machine: EM_AARCH64
    loader.write_bytes(content)
    with pytest.raises(InputError, match=r"another machine \(AARCH64\)"):
        open_root(loader.parent.parent)
    loader.rename(loader.with_name("ld-linux-aarch64.so.1"))
    with pytest.raises(InputError, match=r"another machine \(AARCH64\)"):
        open_root(loader.parent.parent)


def test_a_loader_that_is_no_elf_file(loader: Path) -> None:
    loader.write_text("#!/bin/sh\n")
    with pytest.raises(InputError, match="not a dynamic linker that could be read"):
        open_root(loader.parent.parent)


def test_a_path_that_a_search_path_cannot_hold(loader: Path, tmp_path: Path) -> None:
    shutil.copytree(loader.parent.parent, tmp_path / "a:b")
    with pytest.raises(InputError, match="cannot hold ':'"):
        open_root(tmp_path / "a:b")


# --- directories on the command line


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def cached(name: str) -> Path:
    return store_directory() / name / "root"


def libraries_only(name: str, root: Path) -> Path:
    """Make what a container has: a libc without its development package."""
    for path in open_root(cached(name)).library_directories:
        inside = root / path.relative_to(cached(name))
        inside.mkdir(parents=True)
        for file in path.glob("*.so*"):
            if file.is_file() and file.read_bytes()[:4] == b"\x7fELF":
                shutil.copy(file, inside / file.name)
    return root


CELLS = "host/*/*/default/executable.*"


@pytest.mark.mirror
def test_a_directory_is_the_libc_that_it_holds(command: Command) -> None:
    done = command("run", "--libc", str(cached("glibc-2.41")), "executable.main", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert {cell["id"].split("/")[1] for cell in json.loads(done.stdout)["cells"]} == {"glibc-2.41"}


@pytest.mark.mirror
def test_a_container_without_development_files_runs_dynamic_programs(command: Command, tmp_path: Path) -> None:
    """Start files and headers are the system's; there is nothing to link a static program to."""
    root = libraries_only("glibc-2.41", tmp_path / "container")
    if toolchain(open_root(cached("glibc-2.41")), find_compiler()).borrowed:
        pytest.fail("the fetched libc has no start files of its own")
    done = command("run", "--libc", str(root), CELLS, "--json", "-")
    results = {(cell["link"], cell["result"]) for cell in json.loads(done.stdout)["cells"]}
    assert results == {
        ("dynamic-lazy", "PASS"), ("dynamic-now", "PASS"), ("static", "UNSUPPORTED"), ("static-pie", "UNSUPPORTED"),
    }, done.stderr  # fmt: skip
    assert done.returncode == 0
    assert "libc.a not found" in done.stderr
    assert "headers, Scrt1.o" in done.stderr
    assert "the system's were taken" in done.stderr


@pytest.mark.mirror
def test_a_libc_that_foreign_start_files_do_not_fit(command: Command, tmp_path: Path) -> None:
    """Start files since glibc 2.34 leave it to libc to call constructors, and older ones do not."""
    root = libraries_only("glibc-2.31", tmp_path / "container")
    done = command("run", "--libc", str(root), CELLS)
    assert done.returncode == 4
    said = sentence(done)
    assert "cannot be used: a program that is linked to it does not run" in said
    assert "constructors are not called with the start files of the system (Scrt1.o, " in said
    assert "install its development package there (Debian: libc6-dev" in said


@pytest.mark.mirror
@pytest.mark.parametrize(("file", "keep"), [("libc.so.6", 4096), ("ld-linux-x86-64.so.2", 4096)])
def test_a_broken_libc(file: str, keep: int, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "broken"
    shutil.copytree(cached("glibc-2.41"), root, symlinks=True)
    broken = next(path for path in root.rglob(file) if not path.is_symlink())
    os.truncate(broken, keep)
    done = command("run", "--libc", str(root), "executable.main")
    assert done.returncode == 4
    assert str(root) in sentence(done)


@pytest.mark.mirror
def test_a_build_tree(command: Command, tmp_path: Path) -> None:
    """The layout of glibc's build directory; what is in it here was built elsewhere."""
    tree = tmp_path / "build"
    for name in ("elf", "csu", "math"):
        (tree / name).mkdir(parents=True)
    root = open_root(cached("glibc-2.41"))
    (tree / "elf/ld.so").symlink_to(root.loader)
    (tree / "elf/ld-linux-x86-64.so.2").symlink_to("ld.so")
    (tree / "libc.so").symlink_to(root.libc)
    (tree / "libc.so.6").symlink_to("libc.so")
    (tree / "math/libm.so.6").symlink_to(str(root.find("libm.so.6")))
    for name in ("libc.a", "libc_nonshared.a"):
        (tree / name).symlink_to(str(root.find(name)))
    for name in ("crt1.o", "Scrt1.o", "rcrt1.o", "crti.o", "crtn.o"):
        (tree / "csu" / name).symlink_to(str(root.find(name)))
    done = command("run", "--libc", str(tree), CELLS, "--json", "-")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {cell["result"] for cell in document["cells"]} == {"PASS"}
    assert {link["id"] for link in document["libcs"]} == {"glibc-2.41"}
    assert len({cell["link"] for cell in document["cells"]}) == 4


def a_target(build_id: str | None, spec: str, version: str = "2.41") -> Target:
    libc = Libc(f"glibc-{version}", version, build_id, None, True, True, {}, {}, spec=spec)
    return Target(libc, Build(Path(spec)))


def test_the_same_version_twice_has_two_names() -> None:
    """Another build id is another libc; the same one, asked for twice, is one."""
    given = [a_target("ab" * 20, "system"), a_target("cd" * 20, "glibc-2.41"), a_target("ab" * 20, "/same")]
    given.append(a_target("ab" * 20, "glibc-2.36", "2.36"))
    kept = [(target.libc.id, target.libc.spec, target.also) for target in _distinct(given)]
    assert kept == [
        ("glibc-2.41", "system", ("/same",)),
        ("glibc-2.41-cdcdcdcd", "glibc-2.41", ()),
        ("glibc-2.36", "glibc-2.36", ()),
    ]


def test_of_the_same_libc_twice_the_one_with_more_links_is_kept() -> None:
    """A container's file system has nothing to link a static program to, and the package has."""
    lacking = a_target("ab" * 20, "./container")
    lacking = replace(lacking, build=replace(lacking.build, unsupported={"static": "no libc.a"}))
    (kept,) = _distinct([lacking, a_target("ab" * 20, "glibc-2.41"), a_target("ab" * 20, "glibc-2.41.0")])
    assert (kept.libc.spec, kept.also) == ("glibc-2.41", ("./container", "glibc-2.41.0"))


@pytest.mark.mirror
def test_a_libc_that_was_asked_for_twice_is_noted(command: Command) -> None:
    root = str(cached("glibc-2.44"))
    done = command("run", "--libc", root, "--libc", "glibc-2.44", "executable.main", "--json", "-")
    note = f"glibc-2.44 was asked for as glibc-2.44 and as {root}, which are the same build: it is run once, as {root}"
    assert note in json.loads(done.stdout)["notes"]


# --- what is borrowed and built


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/rseq-matrix"


def test_links_that_are_right_are_left_alone(cache: Path) -> None:
    """So that a cache that cannot be written serves; and what a run that was killed left is in nobody's way."""
    links = {"linux": Path("/usr/include/linux"), "asm": Path("/usr/include/asm")}
    directory = _linked_directory("headers", links)
    assert directory.is_relative_to(cache)
    before = {path: path.lstat().st_ino for path in directory.iterdir()}
    assert _linked_directory("headers", links) == directory
    assert {path: path.lstat().st_ino for path in directory.iterdir()} == before
    (directory / "linux").unlink()
    (directory / f".linux.{os.getpid()}").symlink_to("nowhere")
    assert (_linked_directory("headers", links) / "linux").readlink() == links["linux"]


def test_links_that_cannot_be_made_are_a_sentence(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "borrowed").write_text("")
    with pytest.raises(MissingError, match=f"the cache directory {cache}/borrowed"):
        _linked_directory("headers", {"linux": Path("/usr/include/linux")})


class Compiler:
    """A compiler that counts, that fails when it is told to, and whose libc can be changed."""

    def __init__(self, directory: Path) -> None:
        self.libc, self.count, self.broken = directory / "libc.so.6", directory / "count", directory / "broken"
        self.libc.write_text("")
        program = directory / "compiler"
        script = f"""#!/bin/sh
case "$*" in
-print-file-name=libc.so.6) echo {self.libc}; exit;;
-print-file-name=*) ;;
*) echo >> {self.count};;
esac
[ -e {self.broken} ] && exit 1
exec {" ".join(find_compiler())} "$@"
"""
        program.write_text(script)
        program.chmod(0o755)
        self.command = [str(program)]

    def look(self) -> tuple[str, bool]:
        """Return why the libc is not usable, and whether something was compiled."""
        self.count.write_text("")
        found = integration(source_root() / "csrc/detect", self.command, Toolchain())
        return found.usable, bool(self.count.read_text())


@pytest.mark.usefixtures("cache")
def test_what_is_known_of_the_system_ends_with_its_libc(tmp_path: Path) -> None:
    compiler = Compiler(tmp_path)
    assert compiler.look() == ("", True)
    assert compiler.look() == ("", False)
    compiler.libc.write_text("an update")
    assert compiler.look() == ("", True)
    compiler.command.append("-O1")
    assert compiler.look() == ("", True)


@pytest.mark.usefixtures("cache")
def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    compiler = Compiler(tmp_path)
    compiler.broken.touch()
    assert compiler.look() == ("it cannot be linked", True)
    compiler.broken.unlink()
    assert compiler.look() == ("", True)
    assert compiler.look() == ("", False)


def test_a_cache_that_cannot_be_written_still_lists(command: Command, tmp_path: Path) -> None:
    place = tmp_path / "rseq-matrix/integration"
    place.parent.mkdir()
    place.write_text("")
    done = command("libcs", "system", env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "registers" in done.stdout


STRANGE = "a 'b' & (c) #d"


@pytest.mark.mirror
def test_a_path_that_a_shell_would_read_otherwise(command: Command, tmp_path: Path) -> None:
    home = tmp_path / STRANGE
    shutil.copytree(cached("glibc-2.44").parent, home / "rseq-matrix/libc/glibc-2.44", symlinks=True)
    done = command("run", "--libc", "glibc-2.44", CELLS, "--json", "-", env={**os.environ, "XDG_CACHE_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {cell["result"] for cell in document["cells"]} == {"PASS"}
    assert len({cell["link"] for cell in document["cells"]}) == 4


@pytest.mark.mirror
def test_nothing_of_the_host_gets_in_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = open_root(cached("glibc-2.44"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    host = tmp_path / "host"
    host.mkdir()
    for name in ("stdio.h", "stdlib.h", "pthread.h", "linux/errno.h"):
        (host / name).parent.mkdir(exist_ok=True)
        (host / name).write_text("#error this is the host's\n")
    for name in ("libgcc.a", "crtbeginS.o", "libgcc_s.so.1"):
        (host / name).write_text("this is the host's")
    for name in ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "LD_RUN_PATH"):
        monkeypatch.setenv(name, str(host))
    monkeypatch.setenv("CFLAGS", "-include stdio.h -DHOST")
    monkeypatch.setenv("LDFLAGS", f"-Wl,-rpath,{host}")
    tools = toolchain(root, find_compiler())
    assert str(host) not in repr(tools)
    made = build(tools=replace(tools, unsupported=dict.fromkeys(set(LINKS) - {"dynamic-now"}, "to be quick")))
    assert made.failures == {}
    rules = (made.directory / "build.ninja").read_text()
    assert "-DHOST" not in rules
    assert str(host) not in rules


# --- the list


@pytest.mark.mirror
def test_the_list_says_what_is_there(command: Command) -> None:
    done = command("libcs", "--json", "-")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    schema = json.loads((resources.files("rseq_matrix.schema") / "libcs-1.json").read_text())
    jsonschema.validate(document, schema)
    listed = {libc["spec"]: libc for libc in document["libcs"]}
    assert {"system", *specs.FETCHED} <= set(listed)
    assert all(listed[name]["state"] == "cached" and listed[name]["usable"] for name in specs.FETCHED)
    assert all(listed[name]["version"] == name.partition("-")[2] for name in specs.FETCHED)
    assert listed["glibc-2.31"]["rseq_offset"] is None
    assert listed["glibc-2.36"]["rseq_offset"] > 0 > listed["glibc-2.41"]["rseq_offset"]
    assert listed["glibc-2.41"]["static_thread_pointer_first"] is False
    assert listed["glibc-2.44"]["static_thread_pointer_first"] is True
    assert "registers nothing" in listed["musl-1.2.5"]["integration"]
    text = command("libcs")
    assert "glibc-2.44    cached" in text.stdout


def test_the_list_takes_what_run_takes(command: Command) -> None:
    done = command("libcs", "glibc-2.44", "all", "--json", "-")
    assert done.returncode == 0, done.stderr
    listed = [libc["spec"] for libc in json.loads(done.stdout)["libcs"]]
    assert listed == ["glibc-2.44", *(name for name in specs.FETCHED if name != "glibc-2.44")]


def test_what_is_written_into_a_pipe_has_no_blanks_at_the_end(command: Command) -> None:
    reports = (["libcs", "glibc-2.44"], ["stages"], ["simulate"], ["doctor"], ["explain", "ENOSYS"])
    for arguments in (*reports, ["run", "executable.main", "--table"]):
        done = command(*arguments)
        assert done.stdout
        assert [line for line in done.stdout.splitlines() if line != line.rstrip()] == []


def test_the_list_says_what_is_not_there(command: Command, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = command("libcs", "glibc-2.31", env=environment)
    assert done.returncode == 0, done.stderr
    assert "not fetched" in done.stdout
    done = command("libcs", str(tmp_path), env=environment)
    assert done.returncode == 4
    assert "no dynamic linker" in sentence(done)
