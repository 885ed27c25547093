"""What another integration of rseq into libc would do: designs, the events of a life, and what changes between two."""
