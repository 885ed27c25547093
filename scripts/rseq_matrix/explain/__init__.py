"""`rseq-matrix explain`: which causes an answer of rseq(2) can have, each replayed in a child process."""
