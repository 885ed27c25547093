"""How long does each verb take when everything is built? Of this checkout, and of another one beside it.

Usage, from a checkout after `scripts/rseq-matrix run`:

    .venv/bin/python scripts/benchmarks/warm_verbs.py [--rounds N] [OTHER-CHECKOUT]

Verbs and checkouts are taken in turn, round after round, so that noise of the machine meets them all. Shown are the
medians of the wall time and of the processor time, and with another checkout the ratios of this one to that one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent.parent.parent
ROUNDS = 9
VERBS: dict[str, Sequence[str]] = {
    "stages": ("stages",),
    "run": ("run",),
    "explain": ("explain", "EINVAL", "--length", "32", "--align", "16"),
    "doctor": ("doctor",),
    "inspect": ("inspect", "/bin/ls"),
    "simulate": ("simulate", "--compare", "none", "extensible-2.41"),
}


def once(checkout: Path, arguments: Sequence[str]) -> tuple[float, float]:
    """Return the wall time and the processor time of a command of a checkout, in seconds."""
    before, begun = os.times(), time.perf_counter()
    command = [str(checkout / ".venv" / "bin" / "rseq-matrix"), *arguments]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    wall, after = time.perf_counter() - begun, os.times()
    return wall, after.children_user - before.children_user + after.children_system - before.children_system


def measure(checkouts: Sequence[Path], rounds: int) -> dict[tuple[str, Path], tuple[float, float]]:
    """Return the medians of each verb of each checkout."""
    found: dict[tuple[str, Path], list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for verb, arguments in VERBS.items():
            for checkout in checkouts if number % 2 else reversed(checkouts):
                taken = once(checkout, arguments)
                if number:  # the first round builds what is not there yet
                    found.setdefault((verb, checkout), []).append(taken)
    return {
        key: (statistics.median(wall for wall, _ in all_of), statistics.median(cpu for _, cpu in all_of))
        for key, all_of in found.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("other", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    checkouts = [HERE, *([asked.other.resolve()] if asked.other else [])]
    found = measure(checkouts, asked.rounds)
    table = Table(
        "verb", *(f"{name} {unit}" for name in ("this,", "other,")[: len(checkouts)] for unit in ("s", "CPU s"))
    )
    if asked.other:
        table.add_column("ratio")
        table.add_column("CPU ratio")
    for verb in VERBS:
        values = [value for checkout in checkouts for value in found[verb, checkout]]
        ratios = [values[0] / values[2], values[1] / values[3]] if asked.other else []
        table.add_row(verb, *(f"{value:.3f}" for value in values), *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


if __name__ == "__main__":
    main()
