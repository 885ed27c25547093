/* Split counters: each CPU has counters that only critical sections add to, and all CPUs share counters that only
 * atomics add to. A sum is over both. The two never write the same word, so a thread in a critical section and one in
 * the fallback cannot overwrite each other's adds.
 *
 * The subject `split` is made of it (split.c), and it can be used without: a program or library that includes this
 * header in one of its files gets counters of its own and an add that is inlined. It has to be one that is never
 * unloaded, as the program itself or with -z nodelete. */
#ifndef RSM_SUBJECT_SPLIT_COUNTERS_H
#define RSM_SUBJECT_SPLIT_COUNTERS_H

#include "protection.h"
#include "record.h"

#define RSM_SPLIT_SHIFT 11 /* of the bytes of a CPU's counters */

struct rsm_split_counters {
    uint64_t of[RSM_SUBJECT_COUNTERS];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct rsm_split_counters) == 1 << RSM_SPLIT_SHIFT, "one CPU's after the other's");

static struct rsm_split_counters rsm_split_on_cpu[RSM_CPU_MAX]; /* pages that are never touched take no memory */
static struct rsm_split_counters rsm_split_shared;

static inline void rsm_split_counters_add_shared(unsigned counter, uint64_t n, uint32_t aborts)
{
    __atomic_fetch_add(&rsm_split_shared.of[counter], n, __ATOMIC_RELAXED);
    rsm_note(RSM_SUBJECT_FALLBACK, aborts);
}

/* In a thread that is not known to be protected, or whose section was aborted, in any place. */
static __attribute__((noinline, cold)) void rsm_split_counters_add_carefully(unsigned counter, uint64_t n,
                                                                             uint32_t aborts)
{
    struct rsm_rseq_area *area = rsm_protected();
    for (int tries = 0; tries < RSM_TRIES && area; tries++) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (cpu >= RSM_CPU_MAX)
            break;
        enum rsm_commit commit = rsm_section_add(area, cpu, &rsm_split_on_cpu[cpu].of[counter], n);
        if (commit == RSM_COMMIT_DONE) {
            rsm_note(RSM_SUBJECT_FAST, aborts);
            return;
        }
        if (commit == RSM_COMMIT_ABORTED)
            aborts++;
        else
            area = rsm_doubt();
    }
    rsm_split_counters_add_shared(counter, n, aborts);
}

/* In a thread that is not known to be protected. */
static __attribute__((noinline)) void rsm_split_counters_add_unconfirmed(unsigned counter, uint64_t n)
{
    if (rsm_surely_unprotected())
        rsm_split_counters_add_shared(counter, n, 0);
    else
        rsm_split_counters_add_carefully(counter, n, 0);
}

/* One try, in a thread that is known to be protected. */
static inline enum rsm_commit rsm_split_counters_try(const struct rsm_thread *thread, unsigned counter, uint64_t n)
{
    return rsm_section_add_here(thread->area, &rsm_split_on_cpu[0].of[counter], RSM_SPLIT_SHIFT, RSM_CPU_MAX, n);
}

/* Adds n to a counter, for code that runs where its own TLS is set up: not in an IFUNC resolver or an audit library.
 * What rsm_subject_path() tells is not kept up to date. */
static inline void rsm_split_counters_add(unsigned counter, uint64_t n)
{
    const struct rsm_thread *thread = rsm_confirmed_thread();
    if (__builtin_expect(!thread, 0)) {
        rsm_split_counters_add_unconfirmed(counter, n);
        return;
    }
    enum rsm_commit commit = rsm_split_counters_try(thread, counter, n);
    if (__builtin_expect(commit != RSM_COMMIT_DONE, 0))
        rsm_split_counters_add_carefully(counter, n, commit == RSM_COMMIT_ABORTED);
}

static inline uint64_t rsm_split_counters_sum(unsigned counter)
{
    uint64_t sum = __atomic_load_n(&rsm_split_shared.of[counter], __ATOMIC_RELAXED);
    for (unsigned cpu = 0; cpu < RSM_CPU_MAX; cpu++)
        sum += __atomic_load_n(&rsm_split_on_cpu[cpu].of[counter], __ATOMIC_RELAXED);
    return sum;
}

#endif
