"""What is wrong with rseq here: facts found by experiment, and what they mean to an operator."""
