"""Does the cost of a run grow linearly with its libcs? The whole matrix on one libc, on two, … on all of `--libc all`.

Usage, from a checkout after `scripts/rseq-matrix run --libc all`:

    .venv/bin/python scripts/benchmarks/libc_axis.py [ROUNDS]

Everything is built, so that what is timed is the command of a user, from its start to its end. The numbers of libcs are
taken in turn, round after round, so that noise of the machine meets them all; the medians are shown, and for each
number the ratio to the time of one libc times that number: above 1 it grows faster than linearly. The last line is the
processor time that one libc costs when it has not been built: its probes are built in an empty cache, with the packages
already there.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rseq_matrix.cache import cache_directory
from rseq_matrix.libcs.specs import FETCHED

ROUNDS = 5
COLD = FETCHED[1]


def run(libcs: tuple[str, ...], cache: Path | None = None) -> None:
    """Run the matrix on some libcs as a user does."""
    asked = [word for libc in libcs for word in ("--libc", libc)]
    environment = {**os.environ, **({"XDG_CACHE_HOME": str(cache)} if cache else {})}
    command = [sys.executable, "-m", "rseq_matrix", "run", *asked]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def seconds(libcs: tuple[str, ...]) -> float:
    """Return how long it takes."""
    begun = time.perf_counter()
    run(libcs)
    return time.perf_counter() - begun


def cold_seconds() -> float:
    """Return the processor time of a run on one libc that has been fetched and not built."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "rseq-matrix" / "libc"
        place.mkdir(parents=True)
        shutil.copytree(cache_directory() / "libc" / COLD, place / COLD, symlinks=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run((COLD,), Path(directory))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(rounds: int) -> None:
    """Time all numbers of libcs."""
    numbers = range(1, len(FETCHED) + 1)
    run(FETCHED)
    times: dict[int, list[float]] = {number: [] for number in numbers}
    for _ in range(rounds):
        for number in numbers:
            times[number].append(seconds(FETCHED[:number]))
    median = {number: statistics.median(times[number]) for number in numbers}
    table = Table("libcs", "seconds", "of linear", title=f"warm, median of {rounds} rounds")
    for number in numbers:
        table.add_row(str(number), f"{median[number]:.2f}", f"{median[number] / number / median[1]:.2f}")
    console = Console()
    console.print(table)
    console.print(f"not built: {cold_seconds():.1f} s of processor time for {COLD}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
