"""Writes the lists in docs/ and README.md: what stands between `<!-- list: NAME -->` and `<!-- end of list -->`.

Usage, from a checkout after `scripts/test`: .venv/bin/python scripts/documentation/render.py [--check]

With --check nothing is written; the exit status is 1 where a page is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lists import LISTS, ROOT, ListError

BLOCK = re.compile(r"(<!-- list: (?P<name>[^>]+?) -->\n).*?(<!-- end of list -->)", re.DOTALL)


def pages() -> list[Path]:
    """Return the pages that may have lists."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rendered(text: str, used: set[str]) -> str:
    """Return a page with its lists up to date; `used` gets their names."""

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in LISTS:
            raise ListError(f"no list '{name}'")
        used.add(name)
        return f"{found[1]}\n{LISTS[name]()}\n{found[3]}"

    return BLOCK.sub(block, text)


def main() -> int:
    """Write or check every page. Returns the exit status."""
    check, used, old = "--check" in sys.argv[1:], set[str](), []
    for page in pages():
        text = page.read_text()
        new = rendered(text, used)
        if new != text:
            old.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(new)
    for name in sorted(set(LISTS) - used):
        print(f"no page has the list '{name}'", file=sys.stderr)
    if check and old:
        print(f"out of date, see scripts/documentation/render.py: {', '.join(old)}", file=sys.stderr)
    return int(bool((check and old) or set(LISTS) - used))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ListError as error:
        sys.exit(str(error))
