/* A subject with more static TLS than the dynamic linker keeps room for: it can be preloaded, and not be loaded into
 * the namespace of an object that is opened later. */
#include "subject.h"

static uint64_t counter[RSM_SUBJECT_COUNTERS];
static __thread char large[65536] __attribute__((tls_model("initial-exec"), used));

void rsm_subject_add(unsigned which, uint64_t n)
{
    __atomic_fetch_add(&counter[which], n, __ATOMIC_RELAXED);
}

uint64_t rsm_subject_sum(unsigned which)
{
    return __atomic_load_n(&counter[which], __ATOMIC_RELAXED);
}

char *rsm_large(void)
{
    return large;
}
