"""The package mirror that this host's apt is set up for, and what its configuration says about reaching it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rseq_matrix.errors import MissingError

SOURCES = Path("/etc/apt")
KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")
VARIABLE = "RSEQ_MATRIX_MIRROR"
"""An environment variable: the URI of a mirror to use instead."""

CONNECTION = (
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::ForceIPv",
    "Acquire::Check-Valid-Until ",
    "Acquire::Check-Date ",
)
SUITES = ("bullseye", "bookworm", "trixie", "forky", "experimental")
LATER_SUITES = ("sid", "testing")
"""Asked for what none of the others has."""

NAMES = {*SUITES, *LATER_SUITES, "oldoldstable", "oldstable", "stable", "testing", "unstable"}


def _stanzas(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the URI and the suites of each stanza of a deb822 file."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", stanza, flags=re.MULTILINE))
        fields = {name.lower(): value.split() for name, value in fields.items()}
        if "deb" in fields.get("types", []) and "no" not in fields.get("enabled", []):
            for uri in fields.get("uris", [])[:1]:
                yield uri, fields.get("suites", [])


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the URI and the suite of each line of a one-line-style file."""
    for uri, suite in re.findall(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", text, flags=re.MULTILINE):
        yield uri, [suite]


def _configured() -> Iterator[tuple[str, list[str]]]:
    parts = SOURCES / "sources.list.d"
    for path in sorted(parts.glob("*.sources")):
        yield from _stanzas(path.read_text(errors="replace"))
    for path in (SOURCES / "sources.list", *sorted(parts.glob("*.list"))):
        if path.is_file():
            yield from _lines(path.read_text(errors="replace"))


def mirror() -> str:
    """Return the URI of the mirror. A host whose apt knows none is a MissingError."""
    wanted = os.environ.get(VARIABLE)
    if wanted:
        return wanted
    for uri, suites in _configured():
        if NAMES & set(suites):
            return uri
    raise MissingError(
        f"apt is not set up for a Debian mirror here, so no libc can be fetched: set {VARIABLE} to a mirror's URI, "
        "or give the directory of an extracted root"
    )


def keyring() -> str:
    """Return the file with the archive's keys."""
    found = next((path for path in KEYRINGS if Path(path).is_file()), None)
    if not found:
        raise MissingError(
            "the keys of Debian's archive are missing, so what is fetched could not be verified: "
            "install them (apt install debian-archive-keyring)"
        )
    return found


def connection_settings() -> list[str]:
    """Return the lines of the host's apt configuration about proxies, frozen mirrors and the like, no hooks."""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, errors="replace", check=False)
    return [line for line in done.stdout.splitlines() if line.startswith(CONNECTION) and not line.endswith(' "";')]
