/* The contract of a subject: a library whose per-CPU work `rseq-matrix verify` judges.
 *
 * A subject is a shared object that defines the first two functions below. It need not know anything else of the
 * matrix: it is preloaded into the programs that judge it (and loaded into the namespaces of audit libraries and of
 * dlmopen()), its functions are found by name and called.
 *
 * rsm_subject_add() is called from everywhere: audit hooks, IFUNC resolvers (where the subject's own relocations may
 * not be done, so that nothing that goes through its GOT or PLT works), constructors of other libraries, signal
 * handlers that interrupt it, threads without a registered area, children of vfork() that borrow a registered thread's
 * memory, threads that are about to end. So it may not lock, allocate, or rely on libc or on TLS being set up.
 *
 * A C++ library declares the functions extern "C". This header can be copied; a subject may also declare them itself.
 */
#ifndef RSM_SUBJECT_H
#define RSM_SUBJECT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RSM_SUBJECT_COUNTERS 256

/* Adds n to a counter. counter < RSM_SUBJECT_COUNTERS; n is unitless and the sum wraps at 2^64. Re-entrant from a
 * signal handler, also for the same counter. Every add takes effect exactly once. */
void rsm_subject_add(unsigned counter, uint64_t n);

/* The sum of all adds to a counter. Called when no add is running. In a fork child the sum is the child's own: what its
 * parent had when it forked, and what it added itself. */
uint64_t rsm_subject_sum(unsigned counter);

/* All that follows is optional. */

/* What to call the subject in reports; without it that is the file's name. */
const char *rsm_subject_name(void);

enum rsm_subject_way {
    RSM_SUBJECT_UNKNOWN,
    RSM_SUBJECT_FAST,     /* it took effect inside a critical section */
    RSM_SUBJECT_FALLBACK, /* it took effect without one */
};

/* How this thread's last operation was done: enum rsm_subject_way. Reports count fast paths and fallbacks with it. */
int rsm_subject_path(void);

/* How many of this thread's critical sections the kernel aborted in its last operation. */
unsigned rsm_subject_aborts(void);

/* Registers an rseq area of the subject's own for this thread, if none is registered (librseq's
 * rseq_register_current_thread()). Returns 0, or the errno of rseq(2). `verify` calls it in half of the threads where
 * libc registers none. */
int rsm_subject_register(void);

/* A subject may also have stacks, one a CPU and one that all share, of nodes that are the caller's. A node belongs to
 * the thread that popped it or has not pushed it, and its memory stays readable as long as any thread may pop. As
 * re-entrant as an add. */
struct rsm_subject_node {
    struct rsm_subject_node *next; /* the subject's, while the node is in a stack */
    uint64_t value;                /* the caller's */
};

void rsm_subject_push(struct rsm_subject_node *node);

/* Null where this CPU's stack (if this thread may use it) and the shared stack are empty. */
struct rsm_subject_node *rsm_subject_pop(void);

/* Which stack this thread's last push or pop used: a CPU's number, or -1 for the shared one. With it, the history of
 * pushes and pops is checked to be that of stacks, last in first out. */
int rsm_subject_stack(void);

#ifdef __cplusplus
}
#endif

#endif
