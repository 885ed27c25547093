/* Broken: it counts the depth of its calls in a thread-local variable. Where the variable cannot be reached yet, in an
 * IFUNC resolver that runs before this object is relocated, __tls_get_addr() is called through a PLT that leads
 * nowhere. */
#include "subject.h"

static uint64_t counter[RSM_SUBJECT_COUNTERS];
__thread unsigned depth;

void rsm_subject_add(unsigned which, uint64_t n)
{
    depth++;
    __atomic_fetch_add(&counter[which], n, __ATOMIC_RELAXED);
    depth--;
}

uint64_t rsm_subject_sum(unsigned which)
{
    return __atomic_load_n(&counter[which], __ATOMIC_RELAXED);
}
