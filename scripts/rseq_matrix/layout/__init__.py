"""The static TLS of a process as it is in memory: traced, read, placed and judged."""
