"""How fast is the built-in subject `split`? Ratios of medians, all measured in turn in one process.

Usage, from a checkout after `scripts/rseq-matrix run`:  .venv/bin/python scripts/benchmarks/subject_speed.py [ROUNDS]

The increment alone is the same critical section in inline assembly, in a loop (`alone`) and behind a call (`called`).
It is compared with split's add compiled into the program (`inlined`, csrc/subject/split.h) and with the subject's add
called in its shared object (`fast`); and all of them with what a program without rseq would do, sched_getcpu() and an
atomic add to that CPU's counter. The fallback is measured in a thread that has given its area back, beside
sched_getcpu() and an atomic add in the same thread (csrc/verify/speed.c). Rounds are short, so that few of them are
preempted, and the median is one that was not.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from rseq_matrix.build import build

ROUNDS, ADDS = 400, 20_000
COLUMNS = ("alone", "inlined", "called", "fast", "getcpu", "fallback", "getcpu, no area")
RATIOS = (
    ("inlined", "alone"),
    ("fast", "called"),
    ("fast", "alone"),
    ("getcpu", "alone"),
    ("getcpu", "inlined"),
    ("getcpu", "fast"),
    ("fallback", "getcpu, no area"),
)


def medians(rounds: int) -> list[float]:
    """Return nanoseconds an add, a number for each column."""
    directory = build().directory
    command = [str(directory / "verify" / "speed"), str(rounds), str(ADDS)]
    environment = {"LD_PRELOAD": str(directory / "subjects" / "split.so")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip() or f"{command[0]} ended with status {done.returncode}")
    lines = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    return [statistics.median(column) for column in zip(*lines, strict=True)]


def main() -> None:
    """Print the medians and the ratios."""
    found = medians(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
    table = Table("what", "ns an add")
    for name, nanoseconds in zip(COLUMNS, found, strict=True):
        table.add_row(name, f"{nanoseconds:.2f}")
    console = Console()
    console.print(table)
    nanoseconds_of = dict(zip(COLUMNS, found, strict=True))
    for over, under in RATIOS:
        console.print(f"{over} / {under}: {nanoseconds_of[over] / nanoseconds_of[under]:.2f}", highlight=False)


if __name__ == "__main__":
    main()
