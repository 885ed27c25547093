"""What a person may write behind --libc, and what it stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rseq_matrix.errors import UsageError

SYSTEM = "system"
ALL = "all"
EVERY = "*"
FETCHED = ("glibc-2.31", "glibc-2.36", "glibc-2.41", "glibc-2.43", "glibc-2.44", "musl-1.2.5")
"""What `all` stands for. Any other version that a package index has may be named as well."""

NAMED = re.compile(r"(glibc|musl)-(\d+(?:\.\d+)+)")


@dataclass(frozen=True)
class Spec:
    """One libc that was asked for: the system's, one that is fetched, or one in a directory."""

    text: str
    family: str = ""
    """glibc or musl, where it is fetched."""
    version: str = ""
    directory: Path | None = None

    @property
    def fetched(self) -> bool:
        """Return whether it comes from a package index."""
        return bool(self.family)


def parse(text: str) -> Spec:
    """Return what the text stands for. Something that is neither a known name nor a directory is a UsageError."""
    if text == SYSTEM:
        return Spec(text)
    named = NAMED.fullmatch(text)
    if named:
        return Spec(text, named[1], named[2])
    if "/" in text or text in (".", "..") or (text and Path(text).is_dir()):
        return Spec(text, directory=Path(text))
    known = ", ".join((SYSTEM, ALL, *FETCHED))
    raise UsageError(f"unknown libc '{text}': it is {known}, another version written like these, or a directory")


def spread(texts: Iterable[str]) -> list[str]:
    """Return the names of the libcs, each once, with what `all` stands for in its place."""
    return list(dict.fromkeys(name for text in texts for name in (FETCHED if text == ALL else (text,))))


def _named_in_cell(part: str, system: str) -> list[str]:
    """Return the fetched libcs that the libc part of a five-part glob names.

    The name of the system's libc means that one, and so does a bare `*`. Any other pattern means the same on every
    host: all that it matches.
    """
    if part in (EVERY, system):
        return []
    known = [name for name in FETCHED if name != system and fnmatchcase(name, part)]
    return [part] if NAMED.fullmatch(part) else known


def _named_in_cells(globs: Iterable[str], system: str) -> list[str]:
    """Return the fetched libcs that five-part globs name, those without wildcards first."""
    parts = sorted(map(_libc_part, globs), key=lambda part: not NAMED.fullmatch(part))
    return [name for part in parts for name in _named_in_cell(part, system)]


def choose(texts: Sequence[str], globs: Sequence[str], system: str) -> list[Spec]:
    """Return the libcs of a run, each once: what was asked for, else what cell ids name, else the system's.

    system: the id of the system's libc.
    """
    texts = list(texts)
    if not texts:
        texts = _named_in_cells(globs, system)
        if not texts or any(fnmatchcase(system, _libc_part(glob)) for glob in globs):
            texts.insert(0, SYSTEM)
    return [parse(text) for text in spread(texts)]


def _libc_part(glob: str) -> str:
    parts = glob.split("/")
    return parts[1] if len(parts) == 5 else EVERY
