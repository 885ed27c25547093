"""What the kernel answers to rseq(2): its rules as a model, the calls made for real, and the two compared."""
