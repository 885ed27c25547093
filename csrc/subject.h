/* The contract of a subject: a library whose per-CPU counting is judged.
 *
 * A subject is a shared object that defines the two functions below. They are called from any stage, any thread and any
 * signal handler, so they may not lock, allocate or rely on libc or on TLS being set up.
 *
 * The built-in subject (subject_split.h) keeps to it in another form: it is compiled into every probe, because a
 * resolver that runs before relocation cannot call another object, and its counters lie in the log, so a fork child
 * adds to the same ones. */
#ifndef RSM_SUBJECT_H
#define RSM_SUBJECT_H

#include <stdint.h>

#define RSM_SUBJECT_COUNTERS 256

/* Adds n to a counter. counter < RSM_SUBJECT_COUNTERS; n is unitless and the sum wraps at 2^64. Re-entrant. */
void rsm_subject_add(unsigned counter, uint64_t n);

/* The sum of all adds to a counter. Called when no add is running. In a fork child the sum is the child's own. */
uint64_t rsm_subject_sum(unsigned counter);

/* Optional: what to call the subject in reports. */
const char *rsm_subject_name(void);

/* Optional: how this thread's last add was done: 0 unknown, 1 fast (inside a critical section), 2 fallback. */
int rsm_subject_path(void);

#endif
