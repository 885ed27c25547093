"""How long does `rseq-matrix doctor` take on this host, and `explain`, which asks the kernel less? Both are warm.

Usage, from a checkout after `scripts/rseq-matrix doctor`:  .venv/bin/python scripts/benchmarks/doctor_speed.py [ROUNDS]

Shown are the medians of the seconds that pass, and of the processor time, which other programs lengthen less. The
goal for `doctor` is an answer within 2 seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

ROUNDS = 10
COMMANDS: tuple[tuple[str, ...], ...] = (("doctor",), ("explain", "EINVAL"))


def once(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Return the seconds that pass and the processor time in seconds, children included."""
    command = [sys.executable, "-m", "rseq_matrix", *arguments]
    begun, before = time.monotonic(), os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - begun, spent


def main() -> None:
    """Measure in turn, so that the machine's noise meets both."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    for arguments in COMMANDS:
        once(arguments)
    measured = [[once(arguments) for arguments in COMMANDS] for _ in range(rounds)]
    table = Table(title=f"medians of {rounds} rounds")
    table.add_column("command")
    table.add_column("seconds", justify="right")
    table.add_column("processor time", justify="right")
    for arguments, results in zip(COMMANDS, zip(*measured, strict=True), strict=True):
        passed, spent = (statistics.median(values) for values in zip(*results, strict=True))
        table.add_row(" ".join(arguments), f"{passed:.2f}", f"{spent:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
