"""`rseq-matrix simulate`: designs of how libc integrates rseq, the events of a life, and what differs between two."""
