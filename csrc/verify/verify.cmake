# The programs that `rseq-matrix verify` runs a subject in: verify/NAME. A subject is preloaded, so they name no symbol of it.
