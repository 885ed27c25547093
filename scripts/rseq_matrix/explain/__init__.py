"""Why rseq(2) answered what it answered: read from what a person has, and replayed."""
