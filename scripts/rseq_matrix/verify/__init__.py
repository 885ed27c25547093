"""`rseq-matrix verify`: judges a subject, a library that does per-CPU work with rseq and a fallback."""
