/* What is right in the broken subjects that are like `split`: counters of each CPU, which critical sections add to, a
 * shared one for atomics, the sum over both, and the area, if the kernel watches it. Each file adds what is wrong. */
#ifndef BROKEN_SPLIT_H
#define BROKEN_SPLIT_H

#include "arch.h"
#include "kernel_query.h"
#include "record.h"
#include "registration.h"
#include "subject.h"

#define TRIES 16
#define EXPORT __attribute__((visibility("default")))

static uint64_t split[RSM_CPU_MAX][RSM_SUBJECT_COUNTERS];
static uint64_t shared[RSM_SUBJECT_COUNTERS];

static inline struct rsm_rseq_area *watched_area(void)
{
    struct rsm_registration registration;
    int error;
    rsm_registration_find(&registration);
    if (!rsm_user_registered(&registration) || !rsm_query_area(registration.area, &error))
        return 0;
    return registration.area;
}

EXPORT uint64_t rsm_subject_sum(unsigned which)
{
    uint64_t sum = __atomic_load_n(&shared[which], __ATOMIC_RELAXED);
    for (unsigned cpu = 0; cpu < RSM_CPU_MAX; cpu++)
        sum += split[cpu][which];
    return sum;
}

#endif
