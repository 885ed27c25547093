"""The C sources: in a checkout at the top of the tree, in an installed package in this folder."""

from __future__ import annotations

from pathlib import Path

SOURCE_PATTERNS = ("csrc/**/*", "preload/*", "auditlib/*", "ifunc/*")
SOURCE_SUFFIXES = (".c", ".h", ".def", ".txt", ".cmake")


def source_root() -> Path:
    """Return the directory that holds csrc/, preload/, auditlib/ and ifunc/: the checkout, or the installed copy."""
    here = Path(__file__).resolve().parent
    checkout = here.parent.parent.parent
    return checkout if (checkout / "csrc" / "CMakeLists.txt").is_file() else here


def source_files(root: Path) -> list[Path]:
    """Return every source file, sorted."""
    return sorted(path for pattern in SOURCE_PATTERNS for path in root.glob(pattern) if path.suffix in SOURCE_SUFFIXES)
