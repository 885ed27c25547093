"""How rseq is integrated in a libc, in few words: found out by three small programs, and kept in the cache.

`run` finds out more about a libc, and with what it has built; this is for `libcs`, which builds nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rseq_matrix.cache import cache_directory
from rseq_matrix.libcs.compiler import linked_state
from rseq_matrix.libcs.identity import UNREADABLE, interpreter_of
from rseq_matrix.libcs.offers import OfferTools
from rseq_matrix.libcs.toolchain import Parts, Toolchain

EXPERIMENTS = ("libc_version", "area", "static_thread_pointer")
STATIC_KIND = ("-fPIE", "-static", "-no-pie", "-ffreestanding", "-fno-stack-protector", "-DRSM_STATIC")


@dataclass(frozen=True)
class Integration:
    """What was found out."""

    usable: str
    """Why no program that is linked to this libc runs; empty if one does."""
    version: str
    """As the libc tells it; empty if it does not."""
    offset: int | None
    """__rseq_offset, in a small program; None if this libc has none, so that it registers nothing."""
    static_first: bool | None
    """A static program has its thread pointer before IRELATIVE relocations are applied; None if that is not known."""
    loader: str = ""
    """The dynamic linker of the small program."""

    @property
    def words(self) -> str:
        """Describe it to a person."""
        if self.usable:
            return "-"
        if self.offset is None:
            return "registers nothing: a library has to do it itself"
        place = (
            "behind the thread pointer, in struct pthread" if self.offset > 0 else "before the thread pointer, in TLS"
        )
        early = {True: "registered", False: "blind", None: "not known"}[self.static_first]
        return f"registers every thread; area {place}; static resolvers {early}"


def _key(sources: Path, compiler: Sequence[str], tools: Toolchain) -> str:
    state = linked_state(compiler)
    digest = hashlib.sha256(json.dumps([tools.key, tools.compile, dict(tools.environment), state]).encode())
    for name in EXPERIMENTS:
        digest.update((sources / f"{name}.c").read_bytes())
    return digest.hexdigest()[:20]


def _look(bench: OfferTools) -> Integration:
    tools = bench.tools
    dynamic = ("-fPIE", "-pie")
    absent = bench.link("libc_version", dynamic, tools.program)
    told = "" if absent else bench.run("libc_version")
    wrong = bench.link("area", dynamic, tools.program)
    area = wrong or bench.run("area")
    if isinstance(area, str) or area.returncode != 0:
        usable = (
            area if isinstance(area, str) else f"a program ends with {area.returncode}: {area.stderr.strip()[:120]}"
        )
        return Integration(usable, "", None, None, _loader_of(bench.directory / "area"))
    offset = int(area.stdout) if re.fullmatch(r"-?\d+", area.stdout.strip()) else None
    version = "" if isinstance(told, str) or told.returncode != 0 else told.stdout.strip()
    return Integration("", version, offset, _static_first(bench), _loader_of(bench.directory / "area"))


def _loader_of(program: Path) -> str:
    """Return the dynamic linker that a program names; empty if there is none, or no program was made."""
    try:
        return interpreter_of(program)
    except UNREADABLE:
        return ""


def _static_first(bench: OfferTools) -> bool | None:
    if "static" in bench.tools.unsupported:
        return None
    parts: Parts = bench.tools.static
    if bench.link("static_thread_pointer", STATIC_KIND, parts):
        return None
    done = bench.run("static_thread_pointer")
    return None if isinstance(done, str) or done.returncode not in (0, 1) else done.returncode == 0


def integration(sources: Path, compiler: Sequence[str], tools: Toolchain) -> Integration:
    """Find out, or read from the cache, how rseq is integrated in a libc. sources: csrc/detect."""
    kept = cache_directory() / "integration" / f"{_key(sources, compiler, tools)}.json"
    try:
        return Integration(**json.loads(kept.read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    with tempfile.TemporaryDirectory(dir=_work_directory(kept.parent)) as directory:
        bench = OfferTools(sources, Path(directory), compiler, tools, str(sources.parent))
        found = _look(bench)
    if not found.usable and not bench.hindered:  # a failure may be of the moment: it is looked for again
        _keep(kept, found)
    return found


def _work_directory(wanted: Path) -> Path | None:
    """Return where the programs are made: in the cache, because not every /tmp lets programs run; None for /tmp."""
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return wanted if os.access(wanted, os.W_OK) else None


def _keep(place: Path, found: Integration) -> None:
    """Write down what was found out, where the cache can be written."""
    beside = place.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        beside.write_text(json.dumps(asdict(found)))
        beside.replace(place)
