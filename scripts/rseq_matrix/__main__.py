"""Where `rseq-matrix` and `python -m rseq_matrix` begin."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Import the command line and run it. It cannot speak of an interruption before it is imported."""
    try:
        run = importlib.import_module("rseq_matrix.cli").main
    except KeyboardInterrupt:
        sys.stderr.write("rseq-matrix: interrupted before anything was finished\n")
        sys.exit(5)  # as InterruptedRunError, which is not imported either
    run()


if __name__ == "__main__":
    main()
