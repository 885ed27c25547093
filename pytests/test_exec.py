"""`rseq-matrix exec`: a user's program on another libc, found, started and ended as by itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import COMMAND, Command
from rseq_matrix.libcs.compiler import find_compiler
from rseq_matrix.libcs.roots import open_root
from rseq_matrix.libcs.store import store_directory
from rseq_matrix.libcs.toolchain import Toolchain, toolchain

pytestmark = pytest.mark.mirror
NEWEST, OLDEST = "glibc-2.44", "glibc-2.31"
NOBODY = {"RSEQ_MATRIX_MIRROR": "http://127.0.0.1:9/debian"}

TELLER = """
#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **arguments)
{
    printf("%s %s %s", gnu_get_libc_version(), arguments[0], count > 1 ? arguments[1] : "-");
    return count > 2 ? atoi(arguments[2]) : 0;
}
"""
LIBRARY = "int own(void) { return 42; }\n"
USER = "int own(void);\nint main(void) { return own(); }\n"


def compiled(path: Path, text: str, *options: str, tools: Toolchain | None = None) -> Path:
    source = path.with_suffix(".c")
    source.write_text(text)
    tools = tools or Toolchain()
    parts = tools.object if "-shared" in options else tools.program
    command = [*find_compiler(), *tools.compile, *parts.before, str(source), *options, *parts.after, "-o", str(path)]
    subprocess.run(command, check=True)
    return path


def tools_of(name: str) -> Toolchain:
    return toolchain(open_root(store_directory() / name / "root"), find_compiler())


def on(
    libc: str, *program: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "exec", "--libc", libc, "--", *map(str, program)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=cwd, timeout=300)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def teller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program, built for the oldest libc, so that all can run it."""
    return compiled(tmp_path_factory.mktemp("teller") / "teller", TELLER, tools=tools_of(OLDEST))


@pytest.mark.parametrize("libc", ["glibc-2.31", "glibc-2.36", "glibc-2.41", "glibc-2.43", "glibc-2.44"])
def test_a_program_runs_on_the_libc(libc: str, teller: Path) -> None:
    done = on(libc, teller, "argument", "7")
    assert (done.returncode, done.stderr) == (7, "")
    version, name, argument = done.stdout.split()
    assert (version, argument) == (libc.partition("-")[2], "argument")
    assert name.endswith("teller")


@pytest.mark.parametrize(("name", "path"), [("./teller", ""), ("teller", "."), ("teller", ""), ("here/../teller", "")])
@pytest.mark.parametrize("libc", ["system", OLDEST, NEWEST])
def test_a_program_of_the_current_directory(libc: str, name: str, path: str, teller: Path, tmp_path: Path) -> None:
    """A dynamic linker searches its libraries' directories for a program whose name has no slash."""
    if libc == "system":
        compiled(tmp_path / "teller", TELLER)
    else:
        shutil.copy(teller, tmp_path / "teller")
    (tmp_path / "here").mkdir()
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    done = on(libc, name, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.split()[1]
    assert told in ({name} if libc != OLDEST else {name, "./teller"})  # 2.31 has no --argv0


def test_its_options_are_its_own(teller: Path) -> None:
    assert on(NEWEST, teller, "--help").stdout.split()[2] == "--help"


def test_a_program_of_the_system_runs_on_a_newer_libc() -> None:
    done = on(NEWEST, "sh", "-c", "echo out; exit 9")
    assert (done.stdout, done.returncode) == ("out\n", 9)


def test_the_end_by_a_signal_is_passed_through() -> None:
    assert on(NEWEST, "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert on(NEWEST, "sh", "-c", "kill -PIPE $$").returncode == -signal.SIGPIPE
    assert on("system", "sh", "-c", "kill -PIPE $$").returncode == -signal.SIGPIPE


def test_a_newer_symbol_is_named(tmp_path: Path) -> None:
    text = "#include <arpa/inet.h>\n#include <stdlib.h>\nint main(void) { return arc4random() & 0; }\n"
    program = compiled(tmp_path / "new", text, tools=tools_of(NEWEST))
    done = on(OLDEST, program)
    assert done.returncode == 4
    line = f"rseq-matrix: {program} needs "
    assert done.stderr.startswith(line)
    assert done.stderr.endswith(", which glibc-2.31 does not have\n")
    symbol, _, version = done.stderr.removeprefix(line).partition(",")[0].partition("@")
    assert symbol in {"arc4random", "__libc_start_main"}
    assert version in {"GLIBC_2.36", "GLIBC_2.34"}


def test_a_version_that_no_symbol_has_is_named(tmp_path: Path) -> None:
    program = compiled(
        tmp_path / "relr", "int main(void) { return 0; }\n", "-Wl,-z,pack-relative-relocs", tools=tools_of(NEWEST)
    )
    if b"GLIBC_ABI_DT_RELR" not in program.read_bytes():
        pytest.skip("this linker does not pack relocations")
    assert "needs " in on(OLDEST, program).stderr


@pytest.mark.parametrize("tag", ["--enable-new-dtags", "--disable-new-dtags"])
def test_its_own_libraries_are_found_where_it_finds_them(tag: str, tmp_path: Path) -> None:
    tools = tools_of(OLDEST)
    (tmp_path / "lib").mkdir()
    library = compiled(tmp_path / "lib/libown.so", LIBRARY, "-shared", "-fPIC", tools=tools)
    program = compiled(tmp_path / "user", USER, str(library), f"-Wl,{tag},-rpath,$ORIGIN/lib", tools=tools)
    for libc in (OLDEST, NEWEST):
        assert on(libc, program).returncode == 42


def test_libraries_that_the_user_points_at_are_found(tmp_path: Path) -> None:
    tools = tools_of(OLDEST)
    (tmp_path / "lib").mkdir()
    library = compiled(tmp_path / "lib/libown.so", LIBRARY, "-shared", "-fPIC", "-Wl,-soname,libown.so", tools=tools)
    program = compiled(tmp_path / "user", USER, str(library), tools=tools)
    assert on(NEWEST, program, env={**os.environ, "LD_LIBRARY_PATH": str(library.parent)}).returncode == 42


def test_a_library_that_needs_a_newer_symbol_is_named(tmp_path: Path) -> None:
    text = "#include <math.h>\n#include <stdlib.h>\nint own(void) { return (int)arc4random() & 0; }\n"
    library = compiled(tmp_path / "libown.so", text, "-shared", "-fPIC", tools=tools_of(NEWEST))
    stand_in = compiled(tmp_path / "libown2.so", LIBRARY, "-shared", "-fPIC", tools=tools_of(OLDEST))
    program = compiled(tmp_path / "user", USER, str(stand_in), "-Wl,-rpath,$ORIGIN", tools=tools_of(OLDEST))
    shutil.copy(library, stand_in)
    done = on(OLDEST, program)
    assert done.returncode == 4
    assert f"needs arc4random@GLIBC_2.36 (by its library {stand_in}), which glibc-2.31 does not have" in done.stderr


def test_the_environment_of_a_cell(tmp_path: Path) -> None:
    text = '#include <stdio.h>\n#include <sys/rseq.h>\nint main(void) { printf("%d", __rseq_size > 0); return 0; }\n'
    program = compiled(tmp_path / "size", text, tools=tools_of("glibc-2.36"))
    command = [*COMMAND, "exec", "--libc", NEWEST]
    sizes = [
        subprocess.run([*command, *options, "--", program], capture_output=True, text=True, check=True).stdout
        for options in ([], ["--environment", "tunable-off"])
    ]
    assert sizes[1] == "0"


def test_musl_runs_its_own_programs(tmp_path: Path) -> None:
    program = compiled(tmp_path / "own", "int main(void) { return 3; }\n", tools=tools_of("musl-1.2.5"))
    assert on("musl-1.2.5", program).returncode == 3
    assert "was linked to musl, and glibc-2.44 is glibc" in on(NEWEST, program).stderr


def test_a_symbol_that_musl_does_not_have_is_named(tmp_path: Path) -> None:
    tools = tools_of("musl-1.2.5")
    library = compiled(tmp_path / "libown.so", LIBRARY, "-shared", "-fPIC", tools=tools)
    program = compiled(tmp_path / "user", USER, str(library), "-Wl,-rpath,$ORIGIN", tools=tools)
    assert on("musl-1.2.5", program).returncode == 42
    compiled(library, "int other;\n", "-shared", "-fPIC", tools=tools)
    done = on("musl-1.2.5", program)
    assert done.returncode == 4
    assert f"{program} needs own, which neither musl-1.2.5 nor a library that it finds has" in done.stderr


@pytest.mark.parametrize("kind", ["script", "static", "machine", "32 bits", "cut", "object"])
def test_what_cannot_be_run_is_one_sentence(kind: str, teller: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    content = bytearray(teller.read_bytes())
    words = {
        "script": "is not an ELF program",
        "static": "is not a dynamic program",
        "machine": "is for another machine (AARCH64)",
        "32 bits": "is for another machine",
        "cut": "cannot be read",
        "object": "is not a dynamic program",
    }
    if kind == "static":
        compiled(program, "int main(void) { return 0; }\n", "-static")
    elif kind == "object":
        compiled(program, LIBRARY, "-c")
    elif kind == "script":
        program.write_text("#!/bin/sh\n")
    else:
        content[18] = 183 if kind == "machine" else content[18]
        content[4] = 1 if kind == "32 bits" else content[4]
        program.write_bytes(content[:40] if kind == "cut" else content)
    program.chmod(0o755)
    done = on(NEWEST, program)
    assert done.returncode == 4
    assert words[kind] in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_what_is_not_executable(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command("exec", "--libc", NEWEST, "--", str(tmp_path / "file"))
    assert (done.returncode, "it is not executable" in done.stderr) == (4, True)


def test_a_run_path_to_the_libc_of_the_system(tmp_path: Path) -> None:
    """DT_RPATH comes before --library-path: the dynamic linker of one libc would start the libc of another."""
    library = Path("/lib/x86_64-linux-gnu")
    if not (library / "libc.so.6").is_file():
        pytest.skip("the system's libc is not where Debian has it")
    options = ("-Wl,--disable-new-dtags", f"-Wl,-rpath,{library}")
    program = compiled(tmp_path / "own", "int main(void) { return 3; }\n", *options, tools=Toolchain())
    assert on("system", program).returncode == 3
    done = on(NEWEST, program)
    assert done.returncode == 4
    said = f"{program} finds {library}/libc.so.6 by its own run path before that of {NEWEST}"
    assert said in sentence(done)


def test_a_program_that_would_run_as_somebody_else(teller: Path, tmp_path: Path) -> None:
    """The kernel gives the rights of a set-uid program to that program, not to the dynamic linker that loads it."""
    program = Path(shutil.copy(teller, tmp_path / "teller"))
    if os.geteuid() == 0:
        os.chown(program, 65534, 65534)
        program.chmod(0o4755)
    else:
        program = Path("/bin/su")
        if not program.exists() or not program.stat().st_mode & 0o4000:
            pytest.skip("no set-uid program here")
    done = on(NEWEST, program, "--help")
    assert "runs with your own rights: it is set-uid, and on another libc that has no effect" in done.stderr
    assert on(NEWEST, teller).stderr == ""


def test_another_family_is_said_before_anything_is_fetched(command: Command, tmp_path: Path) -> None:
    done = command(
        "exec", "--libc", "musl-1.2.5", "--", "true", env={**os.environ, **NOBODY, "XDG_CACHE_HOME": str(tmp_path)}
    )
    assert done.returncode == 4
    assert "was linked to glibc, and musl-1.2.5 is musl" in sentence(done)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_file_can_have(command: Command) -> None:
    done = command("exec", "--libc", NEWEST, "--", "/" + "a" * 300)
    assert done.returncode == 4
    assert "cannot be run: File name too long" in sentence(done)


def test_a_pipe_is_no_program(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o755)
    done = on(NEWEST, tmp_path / "pipe")
    assert done.returncode == 4
    assert "it is not a regular file" in sentence(done)


def test_a_dynamic_linker_that_may_not_be_run(teller: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(store_directory() / NEWEST / "root", tmp_path / "root", symlinks=True))
    loader = open_root(root).loader
    loader.chmod(0o644)
    for done in (
        on(str(root), teller),
        subprocess.run(
            [*COMMAND, "run", "--libc", str(root), "executable.main"], capture_output=True, text=True, check=False
        ),
    ):
        assert done.returncode == 4
        assert f"its dynamic linker {loader} is not executable" in sentence(done)
        assert "Errno" not in done.stderr
