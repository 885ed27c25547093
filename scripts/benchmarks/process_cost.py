"""What does the driver cost per process? The ratio of a process run by the driver to the same one spawned bare.

Usage, from a checkout after `scripts/rseq-matrix run`:  .venv/bin/python scripts/benchmarks/process_cost.py [ROUNDS]

Bare: posix_spawn() of the scenario's program with its log, arguments and environment, and waitpid(). Driver, untraced:
the request to the tracer, the run, the reply, and the decoded records. Both are taken in turn in the same run, so that
noise of the machine meets both; the median of the rounds is reported, and the ratio of the medians. Traced is shown
beside it. Last, the whole warm matrix.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rseq_matrix._native import lib

from rseq_matrix.build import Build, build
from rseq_matrix.matrix.cells import Process, all_cells, command, processes
from rseq_matrix.matrix.log import Log
from rseq_matrix.matrix.tracer import Session, TracerPlan

ROUNDS = 100
SHOWN = ("life", "audited", "threads", "quick_exit")


def bare(directory: Path, process: Process) -> None:
    """Spawn and wait, with nothing around it."""
    arguments, environment = command(process)
    with Log(process.stages) as log:
        output = os.memfd_create("output")
        actions = [
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            (os.POSIX_SPAWN_DUP2, log.descriptor, int(lib.RSM_LOG_FD)),
        ]
        pid = os.posix_spawn(directory / arguments[0], arguments, environment, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        os.close(output)
        if status != 0:
            raise SystemExit(f"{process.scenario} ended with status {status}")


def driven(directory: Path, process: Process, session: Session, traced: bool) -> None:
    """Run it as the driver does."""
    arguments, environment = command(process)
    with Log(process.stages) as log:
        run = session.run(TracerPlan(directory, arguments, environment, traced, 20.0), log)
        if len(run.records) != len(process.stages):
            raise SystemExit(f"{process.scenario} left {len(run.records)} records, want {len(process.stages)}")


def seconds(function: Callable[[], None]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(made: Build, process: Process, session: Session, rounds: int) -> list[float]:
    """Return the medians of bare, untraced and traced, in seconds."""
    directory = made.directory / process.link
    os.chdir(directory)
    ways: list[Callable[[], None]] = [
        lambda: bare(directory, process),
        lambda: driven(directory, process, session, traced=False),
        lambda: driven(directory, process, session, traced=True),
    ]
    times: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        for way, taken in zip(ways, times, strict=True):
            taken.append(seconds(way))
    return [statistics.median(taken) for taken in times]


def whole_matrix(rounds: int = 5) -> float:
    """Return the median time of the whole warm matrix, traced, as a user starts it, in seconds."""

    def once() -> None:
        subprocess.run([sys.executable, "-m", "rseq_matrix", "run"], check=True, capture_output=True)

    return statistics.median(seconds(once) for _ in range(rounds))


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    made = build()
    table = Table("process", "bare ms", "untraced ms", "ratio", "traced ms", "ratio", box=None)
    session = Session(made.directory / "tracer")
    ratios = []
    for process in processes(all_cells("glibc", ("dynamic-now", "static"), ("default",))):
        if process.scenario in SHOWN:
            alone, untraced, traced = measure(made, process, session, rounds)
            ratios.append(untraced / alone)
            numbers = [f"{alone * 1e3:.2f}", f"{untraced * 1e3:.2f}", f"{untraced / alone:.2f}"]
            table.add_row(
                f"{process.link} {process.scenario}", *numbers, f"{traced * 1e3:.2f}", f"{traced / alone:.2f}"
            )
    session.close()
    console = Console()
    console.print(table)
    console.print(f"untraced, largest ratio: {max(ratios):.2f} ({rounds} rounds each, medians)", highlight=False)
    console.print(f"whole matrix, warm, traced: {whole_matrix():.2f} s", highlight=False)


if __name__ == "__main__":
    main()
