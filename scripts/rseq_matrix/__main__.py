"""Lets `python -m rseq_matrix` stand for `rseq-matrix`."""

from __future__ import annotations

from rseq_matrix.cli import main

main()
