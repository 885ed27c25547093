"""Which environment takes how much of a run in all of them? `run --environment NAME` for each, then for `all`.

Usage, from a checkout:

    .venv/bin/python scripts/benchmarks/environments.py

Everything is built by a first run, so that what is timed is the command of a user, from its start to its end. An
environment's share is its time over the sum of all; what starting the command costs is in each. The last line is the
run in all of them at once.
"""

from __future__ import annotations

import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from rseq_matrix.environments.catalogue import ALL, ENVIRONMENTS


def run(environment: str) -> tuple[float, str]:
    """Run the matrix in an environment as a user does. Returns seconds, and what the summary says of the cells."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "rseq_matrix", "run", "--environment", environment]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode not in (0, 3):  # 3: its tool is missing
        sys.exit(done.stdout + done.stderr)
    summary = next(line for line in done.stdout.splitlines() if " cells: " in line)
    return seconds, summary.rpartition(", in ")[0]


def main() -> None:
    """Time each and all."""
    run("default")
    times = {name: run(name) for name in ENVIRONMENTS}
    total = sum(seconds for seconds, _ in times.values())
    table = Table("environment", "seconds", "share", "cells")
    for name, (seconds, cells) in times.items():
        table.add_row(name, f"{seconds:.1f}", f"{seconds / total:.0%}", cells)
    seconds, cells = run(ALL)
    console = Console()
    console.print(table)
    console.print(f"all at once: {seconds:.1f} s, {cells}")


if __name__ == "__main__":
    main()
