"""Builds what the matrix runs, with CMake and Ninja, into a cache keyed by content and trusted only when finished."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rseq_matrix.cache import cache_directory, locked
from rseq_matrix.errors import MissingError
from rseq_matrix.libcs.compiler import PACKAGES, find_compiler, linked_state, output_of, unsupported_links
from rseq_matrix.libcs.offers import OfferTools, absent_offers
from rseq_matrix.libcs.toolchain import Toolchain
from rseq_matrix.model.stages import LINKS
from rseq_matrix.sources import source_files, source_root

STAMP = "finished.json"
ABSENT = "absent.json"


@dataclass(frozen=True)
class Build:
    """A finished build. `failures` maps each file that could not be made to the command that failed and its output."""

    directory: Path
    failures: dict[str, str] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    """Links that this machine cannot link, and why."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the dynamic programs need to run on the libc that they are linked to."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """What this libc does not have, of that which some stages need, and why it is believed."""


def _key(root: Path, compiler: list[str], options: list[str], tools: Toolchain) -> str:
    """Name the build by everything that goes into it: sources, compiler, options, and the libc that is linked."""
    digest = hashlib.sha256()
    for path in source_files(root):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(linked_state(compiler).encode())
    flags = [tools.build_environment.get(name, "") for name in ("CFLAGS", "LDFLAGS")]
    digest.update(json.dumps([options, tools.key, flags]).encode())
    return digest.hexdigest()[:20]


def _tool(name: str) -> str:
    """Return a build tool: the one that was installed with this package, else the system's."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise MissingError(f"no {name}: it is installed with rseq-matrix, so reinstall that (pip install rseq-matrix)")
    return found


def _configure(root: Path, directory: Path, compiler: list[str], options: list[str], tools: Toolchain) -> None:
    command = [_tool("cmake"), "--fresh", "-G", "Ninja", "-S", str(root / "csrc"), "-B", str(directory), *options]
    command += [f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}", "-DCMAKE_C_COMPILER_WORKS=1", "-DCMAKE_BUILD_TYPE="]
    environment = {**tools.build_environment, "CC": " ".join(compiler)}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise MissingError(f"cmake cannot use the C compiler '{' '.join(compiler)}': {' '.join(lines)[:300]}")


def _products(ninja: list[str]) -> list[str]:
    """Return the programs and objects that the build links, relative to its directory."""
    return re.findall(r"^([^:\s]+): C_\w+_LINKER", output_of([*ninja, "-t", "targets", "all"]), flags=re.MULTILINE)


def _finish(directory: Path) -> None:
    """Write down that the build is whole: what it made, and how large that is."""
    sizes = {name: (directory / name).stat().st_size for name in _products([_tool("ninja"), "-C", str(directory)])}
    _write(directory / STAMP, {**sizes, ABSENT: (directory / ABSENT).stat().st_size})


def _write(path: Path, value: object) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}")
    beside.write_text(json.dumps(value))
    beside.replace(path)


def _is_whole(directory: Path) -> bool:
    """Return whether the build was finished and everything it made is still there.

    A file of another size is removed, so that it is made again.
    """
    try:
        sizes = json.loads((directory / STAMP).read_text())
    except (OSError, ValueError):
        return False
    whole = True
    for name, size in sizes.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != size:
            path.unlink(missing_ok=True)
            whole = False
    return whole


def _failures(ninja: list[str], output: str) -> dict[str, str]:
    """Read from Ninja's output what failed, with the command and what it said; what is made from it fails too."""
    failed: dict[str, str] = {}
    for block in re.split(r"^FAILED: ", output, flags=re.MULTILINE)[1:]:
        head, _, rest = block.partition("\n")
        command, _, said = rest.partition("\n")
        said = " ".join(("\n" + said).partition("\n[")[0].split())
        for name in re.sub(r"^\[code=\d+\] ", "", head).split():
            failed[name] = f"{command.strip()} ({said[:300]})" if said else command.strip()
    for file in set(_products(ninja)) - set(failed):
        inputs = output_of([*ninja, "-t", "inputs", file]).splitlines()
        cause = next((name for name in inputs if name in failed), None)
        if cause:
            failed[file] = failed[cause]
    return failed


def _require_headers(failures: dict[str, str]) -> None:
    """Raise MissingError if what failed is that the system's headers are not there."""
    for problem in failures.values():
        header = re.search(r"fatal error: (\S+\.h): No such file", problem)
        if header:
            raise MissingError(f"the header {header[1]} is missing; install it ({PACKAGES['compiler']})")


def _make(directory: Path, tools: Toolchain) -> dict[str, str]:
    ninja = [_tool("ninja"), "-C", str(directory)]
    environment = tools.build_environment
    command = [*ninja, "-k", "0"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)
    failures = _failures(ninja, done.stdout) if done.returncode != 0 else {}
    if done.returncode != 0 and not failures:
        raise MissingError(f"ninja cannot build the probes: {' '.join((done.stdout + done.stderr).split())[-300:]}")
    return failures


def _anew(root: Path, directory: Path, compiler: list[str], options: list[str], tools: Toolchain) -> dict[str, str]:
    """Build everything. Returns what failed, as Build has it."""
    bench = OfferTools(root / "csrc/detect/offers", directory / "offers", compiler, tools)
    absent = absent_offers(bench, tools.directory)
    _write(directory / ABSENT, absent)
    _configure(root, directory, compiler, [*options, f"-DRSM_ABSENT={';'.join(absent)}"], tools)
    failures = _make(directory, tools)
    _require_headers(failures)
    if not failures:
        _finish(directory)
    return failures


def build(sabotage: bool = False, werror: bool = False, tools: Toolchain | None = None) -> Build:
    """Build, or find what was built before. A build with failures is returned, and tried again the next time.

    tools: how to link to a libc; by default to the system's, as the compiler does by itself.
    """
    compiler = find_compiler()
    root = source_root()
    tools = tools or Toolchain(unsupported=unsupported_links(compiler))
    links = ";".join(link for link in LINKS if link not in tools.unsupported)
    options = [f"-DRSM_LINKS={links}", f"-DRSM_SABOTAGE={sabotage:d}", f"-DRSM_WERROR={werror:d}", *tools.options()]
    directory = cache_directory() / "build" / _key(root, compiler, options, tools)
    failures: dict[str, str] = {}
    try:
        if not _is_whole(directory):
            directory.mkdir(parents=True, exist_ok=True)
            with locked(directory.with_suffix(".lock")):
                if not _is_whole(directory):
                    failures = _anew(root, directory, compiler, options, tools)
        absent = json.loads((directory / ABSENT).read_text())
    except OSError as error:
        raise MissingError(f"cannot build in the cache directory {directory}: {error.strerror}") from error
    return Build(directory, failures, dict(tools.unsupported), tools.environment, absent)
