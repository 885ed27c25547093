/* The built-in subject: split counters. Each CPU has a counter that only critical sections add to, and all share
 * one that only atomics add to; a sum is over both. The two never write the same word, so a thread in a critical
 * section and a thread in the fallback cannot overwrite each other's adds.
 *
 * It needs neither libc nor TLS nor relocations. The counters lie in the log, so fork children and the child of a vfork
 * count into the same ones. Before an add it asks the kernel (one system call, kernel_query.h) and not only cpu_id,
 * which is stale in a vfork child: the area is the parent's, the registration was dropped by the clone. */
#ifndef RSM_SUBJECT_SPLIT_H
#define RSM_SUBJECT_SPLIT_H

#include "kernel_query.h"
#include "registration.h"
#include "sabotage.h"
#include "subject.h"

_Static_assert(RSM_STAGE_MAX <= RSM_SUBJECT_COUNTERS, "each stage has a counter of its own");

#define RSM_SPLIT_NAME "split"
#define RSM_SPLIT_TRIES 64 /* then the fallback: under a single-stepping tracer every try is aborted */

struct rsm_split_add {
    uint32_t path; /* enum rsm_path */
    uint32_t aborts;
};

/* Whether a critical section is protected here: the kernel watches the very area that we would use. */
static inline int rsm_split_protected(const struct rsm_registration *registration, uint32_t sabotage)
{
    int error;
    if (!rsm_user_registered(registration) || rsm_sabotaged(sabotage, RSM_SABOTAGE_FALLBACK))
        return 0;
    return rsm_sabotaged(sabotage, RSM_SABOTAGE_TRUST_USER) || rsm_query_area(registration->area, &error) != 0;
}

static inline struct rsm_split_add rsm_split_add(struct rsm_log *log, const struct rsm_registration *registration,
                                                 unsigned counter, uint64_t n, uint32_t sabotage)
{
    struct rsm_split_add done = {RSM_PATH_FALLBACK, 0};
    struct rsm_rseq_area *area = registration->area;
    int tries = rsm_split_protected(registration, sabotage) ? RSM_SPLIT_TRIES : 0;
    for (; tries > 0; tries--) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (cpu >= RSM_CPU_MAX)
            break;
        enum rsm_commit commit = rsm_section_add(area, cpu, &log->cpu[cpu].add[counter], n);
        if (commit == RSM_COMMIT_DONE) {
            done.path = RSM_PATH_FAST;
            return done;
        }
        done.aborts += commit == RSM_COMMIT_ABORTED;
    }
    __atomic_fetch_add(&log->shared.add[counter], n, __ATOMIC_RELAXED);
    return done;
}

/* cpus: how many CPUs there can be; those behind them have never been touched and take no memory. */
static inline uint64_t rsm_split_sum(const struct rsm_log *log, unsigned counter, unsigned cpus)
{
    uint64_t sum = log->shared.add[counter];
    for (unsigned cpu = 0; cpu < cpus && cpu < RSM_CPU_MAX; cpu++)
        sum += log->cpu[cpu].add[counter];
    return sum;
}

#endif
