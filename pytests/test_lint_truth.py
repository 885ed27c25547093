"""What the lint warns of does happen: the crafted files, run on this machine's glibc and kernel.

The files are those of test_lint.py, made of the same sources with the same parameters.
"""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
from pathlib import Path

import pytest

from crafting import SECTION_DEFECTS, SOURCES, Recipe, inspect, make

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the crafted files are run on x86-64 only")

STATIC_TLS = "glibc.rtld.optional_static_tls=16384"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "LC_ALL": "C", **environment},
    )


def program(source: str, *options: str) -> Recipe:
    return Recipe(source, options, kind="pie")


# --- static TLS


@pytest.fixture(scope="module")
def opener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(program("open.c", "-ldl"), tmp_path_factory.mktemp("open") / "open")


def test_a_block_above_the_surplus_cannot_be_opened_unless_a_tunable_makes_room(opener: Path, tmp_path: Path) -> None:
    library = make(Recipe("tls_block.c", ("-DSIZE=4096",)), tmp_path / "bad.so")
    assert "cannot allocate memory in static TLS block" in run(opener, library).stdout
    assert run(opener, library, GLIBC_TUNABLES=STATIC_TLS).stdout == "opened\n"


def test_a_block_aligned_above_the_process_cannot_be_opened_whatever_the_tunable(opener: Path, tmp_path: Path) -> None:
    library = make(Recipe("tls_block.c", ("-DALIGNMENT=128",)), tmp_path / "bad.so")
    assert "cannot allocate memory in static TLS block" in run(opener, library).stdout
    assert "cannot allocate memory in static TLS block" in run(opener, library, GLIBC_TUNABLES=STATIC_TLS).stdout


@pytest.mark.parametrize(
    "options",
    [("-DSIZE=4096", '-DMODEL="global-dynamic"'), ("-DALIGNMENT=32",), ("-DSIZE=1024",), ("-DSIZE=256",)],
    ids=["tls-size", "tls-alignment", "tls-surplus", "tls-surplus twin"],
)
def test_the_good_twins_can_be_opened(options: tuple[str, ...], opener: Path, tmp_path: Path) -> None:
    assert run(opener, make(Recipe("tls_block.c", options), tmp_path / "good.so")).stdout == "opened\n"


def test_two_libraries_of_more_than_half_the_surplus_cannot_both_be_opened(opener: Path, tmp_path: Path) -> None:
    one = make(Recipe("tls_block.c", ("-DSIZE=1024",)), tmp_path / "one.so")
    options = ("-DSIZE=1024", "-Dcrafted_block=other_block", "-Wl,--no-as-needed", str(one))
    both = make(Recipe("tls_block.c", options), tmp_path / "both.so")
    assert "cannot allocate memory in static TLS block" in run(opener, both).stdout
    assert run(opener, both, GLIBC_TUNABLES=STATIC_TLS).stdout == "opened\n"
    assert run(opener, both, LD_PRELOAD=str(one)).stdout == "opened\n"  # one has its place since the start


@pytest.mark.parametrize("options", [("-DSIZE=4096",), ("-DALIGNMENT=128",)], ids=["tls-size", "tls-alignment"])
def test_what_cannot_be_opened_can_be_preloaded(options: tuple[str, ...], opener: Path, tmp_path: Path) -> None:
    library = make(Recipe("tls_block.c", options), tmp_path / "bad.so")
    assert run(opener, LD_PRELOAD=str(library)).stdout == "started\n"


# --- resolvers


@pytest.fixture(scope="module")
def early_thread_pointer(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether a static program of this glibc has its thread pointer when resolvers run; 2.44 changed it."""
    asked = make(
        Recipe("resolver_thread_pointer.c", kind="static", hosted=True), tmp_path_factory.mktemp("asked") / "asked"
    )
    return run(asked).returncode == 1


@pytest.mark.libc_a
@pytest.mark.parametrize("kind", ["static", "static-pie"])
@pytest.mark.parametrize(
    ("source", "options"),
    [("resolver_tls.c", ("-DBAD",)), ("resolver_stack_protector.c", ("-DBAD", "-fstack-protector-all"))],
)
def test_a_resolver_of_a_static_program_crashes_on_the_thread_pointer(
    source: str, options: tuple[str, ...], kind: str, early_thread_pointer: bool, tmp_path: Path
) -> None:
    bad = make(Recipe(source, options, kind=kind, hosted=True), tmp_path / "bad")
    good = make(Recipe(source, options[1:], kind=kind, hosted=True), tmp_path / "good")
    assert run(good).returncode > 0  # what the resolver saw
    assert run(bad).returncode == (run(good).returncode if early_thread_pointer else -signal.SIGSEGV)


@pytest.mark.libc_a
@pytest.mark.parametrize("kind", ["static", "static-pie"])
def test_the_order_of_a_static_programs_start_is_read_from_its_code(
    kind: str, early_thread_pointer: bool, tmp_path: Path
) -> None:
    program = make(Recipe("resolver_thread_pointer.c", kind=kind, hosted=True), tmp_path / "asked")
    assert inspect([program])[program]["indirect"]["thread_pointer_first"] == early_thread_pointer
    assert run(program).returncode == early_thread_pointer


def called(library: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    caller = make(program("call.c", str(library), f"-Wl,-rpath,{library.parent}"), library.parent / "call")
    return run(caller, **environment)


@pytest.mark.parametrize("source", ["resolver_tls.c", "resolver_gd_tls.c"])
def test_a_resolver_sees_a_thread_local_variable_before_it_is_initialised(source: str, tmp_path: Path) -> None:
    """Bound now, the resolver runs while its object is relocated; bound lazily, when the function is first called."""
    good = make(Recipe(source, ("-Wl,-z,now",)), tmp_path / "good" / "libgood.so")
    bad = make(Recipe(source, ("-DBAD", "-Wl,-z,lazy")), tmp_path / "bad" / "libbad.so")
    assert called(good).stdout == "42\n"
    assert called(bad).stdout == "42\n"
    now = called(bad, LD_BIND_NOW="1")
    assert now.stdout == "0\n" or now.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("binding", ["lazy", "now"])
def test_a_resolver_that_calls_another_object_before_its_slot_is_relocated_crashes(
    binding: str, tmp_path: Path
) -> None:
    source, link = "resolver_before_relocation.c", f"-Wl,-z,{binding}"
    good = make(Recipe(source, (link,)), tmp_path / "good" / "libgood.so")
    bad = make(Recipe(source, ("-DBAD", link)), tmp_path / "bad" / "libbad.so")
    assert called(good).stdout == "1\n"
    assert called(bad).returncode == -signal.SIGSEGV


@pytest.mark.parametrize(("options", "calls"), [(("-DBAD",), True), ((), False)], ids=["bad", "good"])
def test_a_handlers_first_access_to_dynamic_tls_calls_malloc(
    options: tuple[str, ...], calls: bool, tmp_path: Path
) -> None:
    runner = make(program("handler_run.c", "-pthread", "-ldl"), tmp_path / "run")
    done = run(runner, make(Recipe("handler_gd_tls.c", options), tmp_path / "library.so"))
    assert (int(done.stdout) > 0) == calls


# --- critical sections

KILLED = ("cs-version", "cs-flags", "cs-signature", "cs-abort-inside")
NOT_CHECKED = ("good", "cs-alignment", "cs-post-commit")
NOT_PROTECTED = ("cs-start", "cs-empty")


def interrupted(rule: str, directory: Path) -> subprocess.CompletedProcess[str]:
    runner = str(SOURCES / "section_run.c")
    options = [option for option in SECTION_DEFECTS.get(rule, ()) if option != "-nostdlib"]
    done = run(make(program("section.S", *options, runner), directory / "run"))
    if done.stdout == "unregistered\n":
        pytest.skip("rseq is not registered here")
    return done


@pytest.mark.parametrize("rule", KILLED)
def test_the_kernel_kills_for(rule: str, tmp_path: Path) -> None:
    """Of the rules for descriptors, these are the kernel's own (rseq_get_rseq_cs; flags since their deprecation)."""
    assert interrupted(rule, tmp_path).returncode == -signal.SIGSEGV


@pytest.mark.parametrize("rule", NOT_CHECKED)
def test_the_kernel_aborts_the_section_in_spite_of(rule: str, tmp_path: Path) -> None:
    """rseq(2) demands the alignment, and the end in the code is sense; the kernel checks neither."""
    assert interrupted(rule, tmp_path).stdout == "aborted\n"


@pytest.mark.parametrize("rule", NOT_PROTECTED)
def test_the_kernel_protects_nothing_for(rule: str, tmp_path: Path) -> None:
    """The thread is not in the section that the descriptor describes: silently, its code is not restartable."""
    assert interrupted(rule, tmp_path).stdout == "ran on\n"


def test_an_abort_handler_in_data_kills(tmp_path: Path) -> None:
    """The kernel goes to any address with the signature before it: it is the jump into data that kills (cs-abort)."""
    assert interrupted("cs-abort", tmp_path).returncode == -signal.SIGSEGV


# --- registration


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ((), 0),
        (("-DLENGTH=24",), -errno.EINVAL),
        (("-DLENGTH=20",), -errno.EINVAL),
        (("-DALIGNMENT=8",), -errno.EINVAL),
    ],
    ids=["good", "rseq-length 24", "rseq-length 20", "rseq-alignment"],
)
def test_the_kernel_refuses_a_short_or_misaligned_area(options: tuple[str, ...], answer: int, tmp_path: Path) -> None:
    recipe = program("rseq_own.c", *options, str(SOURCES / "rseq_own_run.c"))
    done = run(make(recipe, tmp_path / "run"), GLIBC_TUNABLES="glibc.pthread.rseq=0")
    assert int(done.stdout) == answer
