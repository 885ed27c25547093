"""What the tests share: the command as a user types it, the live matrix, the build that obeys planted defects."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rseq_matrix.build import Build, build
from rseq_matrix.documents.plain import plain
from rseq_matrix.errors import RseqMatrixError
from rseq_matrix.libcs.compiler import find_compiler, unsupported_links
from rseq_matrix.libcs.specs import FETCHED, parse
from rseq_matrix.libcs.store import obtain
from rseq_matrix.matrix.campaign import Campaign, Wanted
from rseq_matrix.matrix.journal import Journal
from rseq_matrix.matrix.runner import Options, Runner
from rseq_matrix.model.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
HELPERS = Path(__file__).resolve().parent / "helpers"
PLANTED = Path(__file__).resolve().parent / "planted"
LONGEST = (
    "test_commands",
    "test_libc_axis",
    "test_broken",
    "test_inspect_fuzz",
    "test_environments",
    "test_libcs",
    "test_inspect_command",
    "test_bad_input",
)
"""The test files that take longest, in that order: none of them is what is left when all else is done."""
COMMAND = [sys.executable, "-m", "rseq_matrix"]

EVERYWHERE = {name: stage for name, stage in STAGES.items() if stage.carrier != "debugger"}
"""The stages that exist in every environment: the others are gdb's."""

Document = dict[str, Any]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_configure() -> None:
    """Hear Ctrl-C where the caller ignores it, as a shell's `&` does: what the tests start would be deaf to it, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the repetitions, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the repetitions out unless all is asked for, and begin with the files that take longest."""
    if not config.getoption("--all"):
        repeated = [item for item in items if item.get_closest_marker("repetition")]
        config.hook.pytest_deselected(items=repeated)
        items[:] = [item for item in items if not item.get_closest_marker("repetition")]
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))


def rounds(count: int) -> list[Any]:
    """Return the parameters of a test that is to hold every time: the first round is always run."""
    return [pytest.param(number, marks=[pytest.mark.repetition] if number else []) for number in range(count)]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Where every tool is promised (RSEQ_MATRIX_REQUIRE_ALL, in CI), a skip is a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("RSEQ_MATRIX_REQUIRE_ALL") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {item.nodeid}: {report.longrepr}"


@functools.cache
def _ptrace_error() -> int:
    """Return the errno with which this machine refuses to trace; 0 if it does not."""
    campaign = Campaign(Wanted(("host/*/dynamic-now/default/executable.quick_exit",)))
    return next(
        run.trace_error
        for target in campaign.targets.values()
        for f in Runner(target.build, Options()).findings(campaign.processes)
        for run in f.runs.values()
    )


@functools.cache
def _mirror_problem() -> str:
    """Say why the libcs of the axis cannot be had here; empty if they are in the cache, or were fetched just now."""
    try:
        obtain([parse(name) for name in FETCHED])
    except RseqMatrixError as error:
        return str(error)
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what this machine cannot do."""
    if item.get_closest_marker("ptrace") and (error := _ptrace_error()):
        pytest.skip(f"one process may not trace another here: {os.strerror(error)}")
    if item.get_closest_marker("libc_a") and unsupported_links(find_compiler()):
        pytest.skip("no static libc (Debian: libc6-dev; Fedora: glibc-static)")
    if item.get_closest_marker("mirror") and (problem := _mirror_problem()):
        pytest.skip(problem)
    if item.get_closest_marker("binutils") and not shutil.which("readelf"):
        pytest.skip("no readelf (Debian, Fedora and Alpine: binutils)")
    if item.get_closest_marker("cross") and not importlib.util.find_spec("ziglang"):
        pytest.skip("no compiler for other machines (pip install ziglang)")
    if item.get_closest_marker("gdb") and not shutil.which("gdb"):
        pytest.skip("no gdb (Debian, Fedora and Alpine: gdb)")
    if item.get_closest_marker("strace") and not shutil.which("strace"):
        pytest.skip("no strace (Debian, Fedora and Alpine: strace)")
    if item.get_closest_marker("cross_gcc") and not shutil.which("aarch64-linux-gnu-gcc"):
        packages = "Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross; Fedora: gcc-aarch64-linux-gnu; Alpine: none"
        pytest.skip(f"no aarch64-linux-gnu-gcc ({packages})")


def run_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run rseq-matrix as a user would."""
    wrapper = options.pop("wrapper", [])
    options.setdefault("timeout", 900)
    return subprocess.run([*wrapper, *COMMAND, *arguments], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="session")
def command() -> Command:
    return run_command


@pytest.fixture(scope="session")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """Return the live matrix on the system's glibc, in every environment, as the command wrote it."""
    path = tmp_path_factory.mktemp("matrix") / "out.json"
    done = run_command("run", "--environment", "default", "--environment", "tunable-off", "--json", str(path))
    assert path.exists(), done.stderr
    result: Document = json.loads(path.read_text())
    return result


@pytest.fixture(scope="session")
def cells(document: Document) -> dict[str, Document]:
    """Return the live cells by link/environment/stage, without those that this machine cannot link."""
    found = [cell for cell in document["cells"] if cell["result"] != "UNSUPPORTED"]
    return {"/".join(cell["id"].split("/")[2:]): cell for cell in found}


@pytest.fixture(scope="session")
def built() -> Build:
    """Return the build, with warnings as errors."""
    return build(werror=True)


def private_copy(directory: Path, cache: Path) -> Path:
    """Copy a finished build into a cache of a test's own ($XDG_CACHE_HOME), which may be damaged; return the copy.

    Ninja finds all in it as new as it was, and makes nothing again.
    """
    return Path(shutil.copytree(directory, cache / "rseq-matrix" / "build" / directory.name, symlinks=True))


@pytest.fixture(scope="session")
def deny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the helper that makes a system call fail."""
    program = tmp_path_factory.mktemp("helpers") / "deny"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", program, HELPERS / "deny.c"], check=True)
    return program


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return the function that compiles a planted defect, once: a library if its name says that it is preloaded."""
    directory = tmp_path_factory.mktemp("planted")

    def go(name: str, *flags: str) -> str:
        target = directory / (f"{name}.so" if name.endswith("preload") else name + "".join(flags))
        if not target.exists():
            kind = ["-shared", "-fPIC"] if name.endswith("preload") else ["-pthread", *flags]
            cc = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", *kind]
            subprocess.run([*cc, "-o", str(target), str(PLANTED / f"{name}.c")], check=True)
        return str(target)

    return go


Sabotage = Callable[..., Document]


@pytest.fixture(scope="session")
def sabotaged() -> Sabotage:
    """Return a function that runs cells with planted defects and returns the document."""

    def go(globs: tuple[str, ...], sabotage: Mapping[str, str], **options: Any) -> Document:
        wanted = Wanted(globs, options=Options(sabotage=sabotage, **options), sabotage=True)
        campaign = Campaign(wanted)
        with Journal(campaign.identity(), resume=False) as journal:
            for _ in campaign.go(journal):
                pass
            journal.discard()
        result: Document = plain(campaign.document())
        return result

    return go


def not_passed(document: Document) -> dict[str, str]:
    """Return link/stage -> result of all cells that are not PASS."""
    return {f"{c['link']}/{c['stage']}": c["result"] for c in document["cells"] if c["result"] != "PASS"}
