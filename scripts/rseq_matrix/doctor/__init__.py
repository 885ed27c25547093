"""`rseq-matrix doctor`: facts about rseq, found by experiment, and what they mean to an operator."""
