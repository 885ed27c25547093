/* A subject with the defect that LOSES, DOUBLES, CRASHES, HANGS or UNLOADS says, in adds to the counter STAGE, or to
 * all. */
#include "subject.h"

#ifndef STAGE
#define STAGE (which & (RSM_SUBJECT_COUNTERS - 1))
#endif

static uint64_t counter[RSM_SUBJECT_COUNTERS];
static unsigned calls;

void rsm_subject_add(unsigned which, uint64_t n)
{
    calls++;
    if (which == STAGE && calls % 1000 == 7) {
#ifdef LOSES
        return;
#endif
#ifdef DOUBLES
        n *= 2;
#endif
#ifdef CRASHES
        __builtin_trap();
#endif
#ifdef HANGS
        for (;;)
            __asm__ volatile("" : : : "memory");
#endif
    }
#ifdef FORGETS /* what another stage added */
    if (which == STAGE)
        counter[FORGETS] = 0;
#endif
    __atomic_fetch_add(&counter[which], n, __ATOMIC_RELAXED);
}

uint64_t rsm_subject_sum(unsigned which)
{
    return __atomic_load_n(&counter[which], __ATOMIC_RELAXED);
}
