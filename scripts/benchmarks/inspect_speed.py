"""How fast does inspect read a tree? Objects per second, and the ratio to `readelf -aW` on the same files.

Usage, from a checkout after `scripts/rseq-matrix run`: .venv/bin/python scripts/benchmarks/inspect_speed.py [DIRECTORY]

The directory is the system's library directory if none is given. inspect runs as a user runs it, with its workers side
by side; readelf is started once per file, as many at a time. Both are taken in turn, three times, and the least time of
each counts: the machine is noisy, and noise only adds. The memory is the largest sum that the processes of inspect
had at any moment (proportional set size, looked at 10 times a second).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROUNDS = 3
COMMAND = [sys.executable, "-m", "rseq_matrix", "inspect", "--json", "-"]


def pss(pid: int) -> int:
    """Return the proportional set size of a process and its children, in bytes."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return own + sum(pss(int(child)) for child in children)


def inspect(directory: Path) -> tuple[list[str], int]:
    """Inspect the tree. Returns the paths that it read and the peak of its memory."""
    peak = 0
    with subprocess.Popen([*COMMAND, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.1):
                peak = max(peak, pss(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        output = process.stdout.read() if process.stdout else b""
        done.set()
        watcher.join()
    return [file["path"] for file in json.loads(output)["files"]], peak


def readelf(paths: list[str]) -> None:
    """Run readelf on each file, as many at a time as there are processors."""

    def one(path: str) -> None:
        subprocess.run(["readelf", "-aW", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, paths))


def seconds(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.monotonic()
    function()
    return time.monotonic() - started


def main() -> None:
    """Measure and print."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("/usr/lib")
    paths, peak = inspect(directory)
    times: dict[str, list[float]] = {"inspect": [], "readelf -aW": []}
    for _ in range(ROUNDS):
        times["inspect"].append(seconds(lambda: inspect(directory)))
        times["readelf -aW"].append(seconds(lambda: readelf(paths)))
    least = {name: min(values) for name, values in times.items()}
    print(f"{directory}: {len(paths)} objects, {len(os.sched_getaffinity(0))} processors")
    for name, value in least.items():
        print(f"{name:12} {value:6.1f} s  {len(paths) / value:6.1f} objects per second")
    print(f"ratio        {least['inspect'] / least['readelf -aW']:6.2f}")
    print(f"memory       {peak / 2**20:6.0f} MiB at the peak, of all its processes")


if __name__ == "__main__":
    main()
