"""Fetches packages with apt itself, into a private root, as an ordinary user.

apt gets a configuration of its own, so that nothing of the host's is read (but its proxies) and nothing written: lists,
archives and state lie in a directory that is removed afterwards. apt verifies the archive's signature against Debian's
keys, and each package against the signed index; without a signature it refuses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rseq_matrix.errors import MissingError, UsageError
from rseq_matrix.libcs.mirror import LATER_SUITES, SUITES, connection_settings, keyring, mirror

TIME_LIMIT = 1800
"""Seconds that one of apt's tools may take. On a full disk, apt-get update waits for ever."""

UNUSED = ("usr/share/", "usr/lib/x86_64-linux-gnu/gconv/", "lib/x86_64-linux-gnu/gconv/", "usr/bin/", "sbin/")
COMPILER_PARTS = re.compile(r"/(crt\w+\.o|libgcc\.a|libgcc_eh\.a)$")
CONFIGURATION = """\
Dir::Etc::main "/dev/null";
Dir::Etc::parts "{base}/empty";
Dir::Etc::sourcelist "{base}/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "{base}/state";
Dir::State::status "/dev/null";
Dir::Cache "{base}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
"""


@dataclass(frozen=True)
class Package:
    """One version of a package that an index has."""

    name: str
    version: str
    suite: str

    @property
    def upstream(self) -> str:
        """Return the version without Debian's epoch and revision."""
        return re.sub(r"^\d+:", "", self.version).rpartition("-")[0] or self.version


def _run(command: Sequence[str], base: Path, place: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of apt's tools with its private configuration."""
    environment = {"APT_CONFIG": str(base / "apt.conf"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, cwd=place, check=False,
            timeout=TIME_LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        name = " ".join(command[:2])
        raise MissingError(f"'{name}' did not end within {TIME_LIMIT} seconds: is the disk full?") from error


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return what apt found most wrong, in one line."""
    lines = [line for line in done.stderr.splitlines() if re.match(r"[EW]:", line)]
    return re.sub(r"\s+", " ", lines[0][2:]).strip()[:300] if lines else f"exit status {done.returncode}"


class Index:
    """The package indexes of some suites, in a private directory. More are asked where these are not enough."""

    def __init__(self, base: Path) -> None:
        """Set apt up. base: a new directory, which the caller removes."""
        for tool in ("apt-get", "apt-cache", "apt-config", "dpkg-deb"):
            if not shutil.which(tool):
                raise MissingError(
                    f"no {tool} here, so no libc can be fetched: install apt (Debian's), or give the directory of an "
                    "extracted root or of a container's file system"
                )
        self._base = base
        for name in ("state/lists/partial", "cache/archives/partial", "empty", "archives"):
            (base / name).mkdir(parents=True, exist_ok=True)
        settings = "\n".join(connection_settings())
        (base / "apt.conf").write_text(settings + "\n" + CONFIGURATION.format(base=base))
        self._mirror, self._keyring = mirror(), keyring()
        self.suites: tuple[str, ...] = ()
        self.problem = ""
        self._update(SUITES)

    def _update(self, suites: Sequence[str]) -> None:
        """Ask the suites. Those that the mirror does not have are not counted as asked."""
        suites = (*self.suites, *suites)
        lines = [f"deb [signed-by={self._keyring}] {self._mirror} {suite} main\n" for suite in suites]
        (self._base / "sources.list").write_text("".join(lines))
        done = _run(["apt-get", "update"], self._base)
        self.problem = _complaint(done) if done.returncode != 0 or "\nW:" in f"\n{done.stderr}" else ""
        told = _run(["apt-get", "indextargets", "--format", "$(RELEASE) $(SUITE) $(CODENAME) $(FILENAME)"], self._base)
        answered = {name for line in told.stdout.splitlines() for name in line.split()[:-1]}
        self.suites = tuple(suite for suite in suites if suite in answered)

    def _known(self, names: Iterable[str]) -> list[Package]:
        done = _run(["apt-cache", "madison", *names], self._base)
        rows = [[part.strip() for part in line.split("|")] for line in done.stdout.splitlines()]
        return [Package(row[0], row[1], row[2].split()[1].partition("/")[0]) for row in rows if len(row) == 3]

    def find(self, name: str, upstream: str) -> Package:
        """Return the newest package of that upstream version. One that no suite has is a UsageError."""
        for more in ((), LATER_SUITES):
            if more:
                self._update(more)
            if not self.suites:
                raise MissingError(f"the package mirror {self._mirror} cannot be used: {self.problem}")
            fits = [package for package in self._known([name]) if _is_version(package.upstream, upstream)]
            if fits:
                return fits[0]  # apt-cache madison begins with the newest
        asked = ", ".join(self.suites)
        problem = f" ({self.problem})" if self.problem else ""
        raise UsageError(f"no {name} {upstream} in the package indexes: the suites {asked} were asked{problem}")

    def companion(self, name: str, suite: str) -> Package | None:
        """Return another package of the same suite, or of one that is older than it."""
        order = {suite: number for number, suite in enumerate(SUITES)}
        last = order.get(suite, len(order))
        fits = [package for package in self._known([name]) if order.get(package.suite, len(order)) <= last]
        return max(fits, key=lambda package: order.get(package.suite, len(order)), default=None)

    def fetch(self, packages: Sequence[Package]) -> list[Path]:
        """Download the packages, verified, and return their files."""
        directory = self._base / "archives"
        wanted = [f"{package.name}={package.version}" for package in packages]
        done = _run(["apt-get", "-q", "download", *wanted], self._base, directory)
        if done.returncode != 0:
            raise MissingError(f"apt cannot fetch {' and '.join(wanted)}: {_complaint(done)}")
        names = (f"{package.name}_{package.version.replace(':', '%3a')}_*.deb" for package in packages)
        return [next(directory.glob(name)) for name in names]


def _is_version(upstream: str, wanted: str) -> bool:
    """Return whether an upstream version is the wanted one, or a point release of it."""
    return upstream == wanted or re.match(rf"{re.escape(wanted)}[.+~-]", upstream) is not None


def _is_used(name: str, compiler_parts_only: bool) -> bool:
    if compiler_parts_only:
        return COMPILER_PARTS.search(name) is not None
    return not name.startswith(UNUSED) and "/audit/" not in name


def extract(archive: Path, root: Path, compiler_parts_only: bool = False) -> None:
    """Unpack what is used of a package: no programs, documents or character sets."""
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE)
    with process, tarfile.open(fileobj=process.stdout, mode="r|") as members:
        for member in members:
            member.name = member.name.removeprefix("./")
            if member.isdir() or not _is_used(member.name, compiler_parts_only):
                continue
            _extract_one(members, member, root)
    if process.returncode != 0:
        raise MissingError(f"dpkg-deb cannot unpack {archive.name}")


def _extract_one(members: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    target = root / member.name
    if ".." in target.parts or target.resolve().is_relative_to(root.resolve()) is False:
        raise MissingError(f"a package has a file outside its root: {member.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        target.unlink(missing_ok=True)
        target.symlink_to(member.linkname)
    elif member.islnk():
        shutil.copy2(root / member.linkname.removeprefix("./"), target)
    elif member.isfile():
        source = members.extractfile(member)
        with target.open("wb") as file:
            if source:
                shutil.copyfileobj(source, file)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
        os.utime(target, (member.mtime, member.mtime))  # fetched again, it is the same: nothing is built anew
