"""Builds the site and the man pages from docs/ and from click. Every broken link or anchor is an error.

Usage, from a checkout after `scripts/test`: .venv/bin/python scripts/documentation/build.py [DIRECTORY]

DIRECTORY, build/documentation if none is given, gets site/ and man/.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click
from click_man.core import write_man_pages
from mkdocs.commands.build import build
from mkdocs.config import load_config

from rseq_matrix import __version__
from rseq_matrix.cli import COMMANDS, command

HERE = Path(__file__).resolve().parent


def whole() -> click.Group:
    """Return the command line with every command imported, which click-man does not ask for, and a short help of it."""
    context = click.Context(command)
    for name, sentence in COMMANDS.items():
        one = command.get_command(context, name)
        if one:
            one.short_help = sentence.rstrip(".")
            command.add_command(one, name)
    command.short_help = "where are restartable sequences usable?"
    return command


def main() -> None:
    """Build both."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "build" / "documentation"
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    man = target / "man"
    man.mkdir(parents=True, exist_ok=True)
    write_man_pages("rseq-matrix", whole(), version=__version__, target_dir=str(man))
    build(load_config(str(HERE / "mkdocs.yml"), strict=True, site_dir=str(target.resolve() / "site")))


if __name__ == "__main__":
    main()
