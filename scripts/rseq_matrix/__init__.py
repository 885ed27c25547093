"""Where are restartable sequences usable? Every early and late place in a process's life, on this glibc and kernel."""

from __future__ import annotations

__version__ = "0.1.0"
