"""The cache of libcs: never trusted half-written, mended when it is damaged, shared by two runs, and of use offline."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import COMMAND, Command
from moments import comes
from rseq_matrix.errors import MissingError, UsageError
from rseq_matrix.libcs import packages, store
from rseq_matrix.libcs.mirror import SUITES
from rseq_matrix.libcs.packages import Index, Package
from rseq_matrix.libcs.specs import FETCHED, parse
from rseq_matrix.libcs.store import damage, obtain, read, sound, store_directory

SPEC = parse("glibc-2.99")
NEWEST = "glibc-2.44"
NOBODY = {"RSEQ_MATRIX_MIRROR": "http://127.0.0.1:9/debian"}


class Shelf:
    """Stands in for apt: what would be fetched is made on the spot."""

    fetched = 0

    def __init__(self, base: Path) -> None:
        self.base = base

    def find(self, name: str, upstream: str) -> Package:
        if upstream != "2.99":
            raise UsageError(f"no {name} {upstream}")
        return Package(name, f"{upstream}-1", "shelf")

    def companion(self, _name: str, _suite: str) -> Package | None:
        return None

    def fetch(self, wanted: Sequence[Package]) -> list[Path]:
        type(self).fetched += 1
        return [self.base / f"{package.name}.deb" for package in wanted]


def unpack(archive: Path, root: Path, compiler_parts_only: bool = False) -> None:  # noqa: ARG001
    (root / "lib").mkdir(parents=True, exist_ok=True)
    for number in range(5):
        (root / "lib" / f"{archive.stem}-{number}.so").write_text(f"{archive.stem} {number}")
    loader = root / "lib" / f"ld-{archive.stem}.so.2"
    loader.write_text("")
    loader.chmod(0o755)
    link = root / "lib" / f"{archive.stem}.so"
    link.symlink_to(f"{archive.stem}-0.so")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Shelf]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store, "Index", Shelf)
    monkeypatch.setattr(store, "extract", unpack)
    Shelf.fetched = 0
    return Shelf


def leftovers() -> list[str]:
    return [path.name for path in store_directory().iterdir() if path.name.startswith(".")]


def test_what_was_fetched_is_kept_and_not_fetched_again(shelf: type[Shelf]) -> None:
    entry = obtain([SPEC])[SPEC.text]
    assert entry.size > 0
    assert [package.name for package in entry.packages] == ["libc6", "libc6-dev"]
    assert obtain([SPEC])[SPEC.text] == entry
    assert shelf.fetched == 1
    assert leftovers() == []


@pytest.mark.parametrize("how", ["changed", "shorter", "gone", "more", "link", "list"])
def test_a_damaged_entry_is_fetched_again(how: str, shelf: type[Shelf]) -> None:
    entry = obtain([SPEC])[SPEC.text]
    victim = entry.root / "lib/libc6-3.so"
    if how == "changed":
        victim.write_text(victim.read_text().replace("3", "4"))
    elif how == "shorter":
        os.truncate(victim, 2)
    elif how == "gone":
        victim.unlink()
    elif how == "more":
        (victim.parent / "libevil.so").write_text("")
    elif how == "link":
        (victim.parent / "libc6.so").unlink()
        (victim.parent / "libc6.so").symlink_to("/lib/libc.so.6")
    else:
        (entry.directory / store.MANIFEST).write_text('{"packages": [')
    assert sound(SPEC.text) is None
    if how != "list":
        assert damage(entry).startswith("lib/")
    again = obtain([SPEC])[SPEC.text]
    assert again == entry
    assert damage(again) == ""
    assert shelf.fetched == 2
    assert leftovers() == []


@pytest.mark.parametrize("recorded", [True, False])
def test_a_dynamic_linker_that_lost_its_right_is_damage(recorded: bool, shelf: type[Shelf]) -> None:
    """What older versions wrote down has no rights in it; that a dynamic linker has them is known all the same."""
    entry = obtain([SPEC])[SPEC.text]
    manifest = json.loads((entry.directory / store.MANIFEST).read_text())
    assert sorted(manifest["executable"], reverse=True) == ["lib/ld-libc6.so.2", "lib/ld-libc6-dev.so.2"]
    if not recorded:
        del manifest["executable"]
        (entry.directory / store.MANIFEST).write_text(json.dumps(manifest))
    assert sound(SPEC.text)
    (entry.root / "lib/ld-libc6.so.2").chmod(0o644)
    assert damage(entry) == "lib/ld-libc6.so.2"
    assert damage(obtain([SPEC])[SPEC.text]) == ""
    assert shelf.fetched == 2


CRAFTED = {
    "nested": '{"packages": ' + "[" * 100000,
    "empty": '{"packages": [], "files": {}}',
    "no root": '{"packages": [{"name": "libc6", "version": "1-1", "suite": "x"}], "files": {}}',
    "types": '{"packages": [{"name": 1, "version": [], "suite": {}}], "files": {"a": []}}',
    "list": "[]",
    "modes": '{"packages": [], "files": {"a": ""}, "executable": [[]]}',
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_list_that_somebody_else_wrote(kind: str, shelf: type[Shelf]) -> None:
    entry = obtain([SPEC])[SPEC.text]
    (entry.directory / store.MANIFEST).write_text(CRAFTED[kind])
    shutil.rmtree(entry.root)
    assert sound(SPEC.text) is None
    assert obtain([SPEC])[SPEC.text] == entry
    assert shelf.fetched == 2


def test_a_cache_that_cannot_hold_a_libc_is_said_before_fetching(
    shelf: type[Shelf], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a:b"))
    with pytest.raises(MissingError, match=r"the cache directory .* cannot hold a libc: .* ':'"):
        obtain([SPEC])
    assert shelf.fetched == 0
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_behind_and_keeps_what_was_finished(shelf: type[Shelf]) -> None:
    with pytest.raises(UsageError, match=r"glibc-2\.98 cannot be fetched: no libc6 2\.98"):
        obtain([SPEC, parse("glibc-2.98")])
    assert sound(SPEC.text)
    assert leftovers() == []
    assert shelf.fetched == 1


def test_what_is_damaged_and_cannot_be_fetched_again(shelf: type[Shelf], monkeypatch: pytest.MonkeyPatch) -> None:
    entry = obtain([SPEC])[SPEC.text]
    (entry.root / "lib/libc6-3.so").unlink()
    monkeypatch.setattr(shelf, "find", lambda *_: (_ for _ in ()).throw(MissingError("nobody answers")))
    with pytest.raises(MissingError, match=r"what the cache has of glibc-2\.99 is damaged and cannot be fetched again"):
        obtain([SPEC])


DRIVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_libc_store as here
from rseq_matrix.libcs import packages, store
def slow(archive, root, compiler_parts_only=False):
    here.unpack(archive, root)
    Path(sys.argv[1]).touch()
    time.sleep({pause})
store.Index, store.extract = here.Shelf, slow
store.obtain([here.SPEC])
print(here.Shelf.fetched)
"""


def driver(tmp_path: Path, mark: str, pause: float) -> subprocess.Popen[str]:
    """Start a process that fetches slowly; it touches the file `mark` when it is in the middle."""
    code = DRIVER.format(tests=str(Path(__file__).parent), pause=pause)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / mark)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    assert comes(path.exists), f"{path} did not come"


def test_a_run_that_is_killed_in_the_middle_leaves_no_entry(tmp_path: Path, shelf: type[Shelf]) -> None:
    with driver(tmp_path, "middle", 60) as process:
        wait_for(tmp_path / "middle")
        process.send_signal(signal.SIGKILL)
    assert read(SPEC.text) is None
    assert leftovers() != []
    assert obtain([SPEC])
    assert leftovers() == []
    assert shelf.fetched == 1


def test_two_runs_at_once_fetch_once(tmp_path: Path, shelf: type[Shelf]) -> None:
    with driver(tmp_path, "first", 0.7) as first:
        wait_for(tmp_path / "first")
        with driver(tmp_path, "second", 0.7) as second:
            counts = sorted(process.communicate(timeout=300)[0].strip() for process in (first, second))
    assert counts == ["0", "1"]
    assert sound(SPEC.text)
    assert shelf.fetched == 0


# --- apt itself

needs_apt = pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt here (Debian)")


@needs_apt
def test_an_unsigned_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suite in SUITES:
        directory = tmp_path / "archive/dists" / suite
        (directory / "main/binary-amd64").mkdir(parents=True)
        (directory / "main/binary-amd64/Packages").write_text("")
        (directory / "Release").write_text(
            f"Suite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
        )
    monkeypatch.setenv("RSEQ_MATRIX_MIRROR", f"file:{tmp_path}/archive")
    index = Index(tmp_path / "apt")
    assert index.suites == ()
    with pytest.raises(MissingError, match=r"cannot be used: .*(not signed|NO_PUBKEY|does not have a Release file)"):
        index.find("libc6", "2.31")


def test_apt_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, apt-get update waits for ever."""
    monkeypatch.setattr(packages, "TIME_LIMIT", 0.2)
    with pytest.raises(MissingError, match=r"'sleep 60' did not end within 0\.2 seconds: is the disk full"):
        packages._run(["sleep", "60"], tmp_path)


@needs_apt
@pytest.mark.mirror
def test_an_unknown_version_names_the_suites_that_were_asked(command: Command) -> None:
    done = command("exec", "--libc", "glibc-2.99", "--", "true")
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 2
    assert "no libc6 2.99 in the package indexes: the suites bullseye, bookworm, trixie, forky, " in sentence(done)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@needs_apt
def test_offline_without_a_cache_is_one_sentence(command: Command, tmp_path: Path) -> None:
    environment = {**os.environ, **NOBODY, "XDG_CACHE_HOME": str(tmp_path)}
    done = command("run", "--libc", "glibc-2.31", env=environment)
    assert done.returncode == 3
    assert "glibc-2.31 cannot be fetched: the package mirror http://127.0.0.1:9/debian cannot be used" in sentence(done)


@pytest.mark.mirror
def test_offline_the_cached_ones_work(command: Command) -> None:
    done = command("run", "--libc", "all", "executable.main", "--json", "-", env={**os.environ, **NOBODY})
    assert done.returncode == 0, done.stderr
    assert [libc["id"] for libc in json.loads(done.stdout)["libcs"]] == list(FETCHED)


@pytest.fixture
def without_apt(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which everything is found but apt."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for place in os.environ["PATH"].split(":"):
        for path in Path(place).glob("*") if Path(place).is_dir() else ():
            if not path.name.startswith(("apt", "dpkg")) and not (directory / path.name).is_symlink():
                (directory / path.name).symlink_to(path)
    return {**os.environ, "PATH": str(directory), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_a_host_without_apt(command: Command, without_apt: dict[str, str]) -> None:
    done = command("run", "--libc", "glibc-2.31", env=without_apt)
    assert done.returncode == 3
    assert "no apt-get here, so no libc can be fetched" in sentence(done)


@needs_apt
def test_a_host_with_half_of_apt(command: Command, without_apt: dict[str, str]) -> None:
    for tool in ("apt-get", "dpkg-deb", "apt-cache"):
        (Path(without_apt["PATH"]) / tool).symlink_to(str(shutil.which(tool)))
    done = command("run", "--libc", "glibc-2.31", env=without_apt)
    assert done.returncode == 3
    assert "no apt-config here, so no libc can be fetched" in sentence(done)


@pytest.mark.mirror
def test_without_apt_directories_still_work(command: Command, without_apt: dict[str, str]) -> None:
    root = store_directory() / "glibc-2.44" / "root"
    done = command("exec", "--libc", str(root), "--", "sh", "-c", "exit 5", env=without_apt)
    assert done.returncode == 5, done.stderr


@pytest.mark.mirror
def test_a_damaged_libc_is_mended_from_the_mirror(command: Command, tmp_path: Path) -> None:
    """The cache of one libc, damaged; everything else is as a user has it."""
    source = store_directory() / NEWEST
    place = tmp_path / "rseq-matrix/libc" / NEWEST
    shutil.copytree(source, place, symlinks=True)
    loader = next(place.rglob("ld-linux-x86-64.so.2"))
    os.truncate(loader, 1000)
    done = subprocess.run(
        [*COMMAND, "exec", "--libc", NEWEST, "--", "true"],
        env={**os.environ, **NOBODY, "XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert f"what the cache has of {NEWEST} is damaged and cannot be fetched again" in done.stderr
    listed = command("libcs", NEWEST, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    assert "damaged" in listed.stdout
    done = command("exec", "--libc", NEWEST, "--", "true", env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert loader.stat().st_size == next(source.rglob("ld-linux-x86-64.so.2")).stat().st_size
