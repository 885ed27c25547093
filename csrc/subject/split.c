/* The built-in subject `split`: each CPU has counters that only critical sections add to, and all CPUs share counters
 * that only atomics add to. A sum is over both. The two never write the same word, so a thread in a critical section
 * and one in the fallback cannot lose each other's adds. */
#include "told.h"

struct counters {
    uint64_t of[RSM_SUBJECT_COUNTERS];
} __attribute__((aligned(64)));

static struct counters on_cpu[RSM_CPU_MAX]; /* memory that is never touched is never there */
static struct counters shared;

RSM_VISIBLE void rsm_subject_add(unsigned counter, uint64_t n)
{
    uint32_t aborts = 0;
    struct rsm_rseq_area *area = rsm_protected();
    for (int tries = 0; tries < RSM_TRIES && area; tries++) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (cpu >= RSM_CPU_MAX)
            break;
        enum rsm_commit commit = rsm_section_add(area, cpu, &on_cpu[cpu].of[counter], n);
        if (commit == RSM_COMMIT_DONE) {
            rsm_note(RSM_SUBJECT_FAST, aborts);
            return;
        }
        if (commit == RSM_COMMIT_ABORTED)
            aborts++;
        else
            area = rsm_doubt();
    }
    __atomic_fetch_add(&shared.of[counter], n, __ATOMIC_RELAXED);
    rsm_note(RSM_SUBJECT_FALLBACK, aborts);
}

RSM_VISIBLE uint64_t rsm_subject_sum(unsigned counter)
{
    uint64_t sum = __atomic_load_n(&shared.of[counter], __ATOMIC_RELAXED);
    for (unsigned cpu = 0; cpu < RSM_CPU_MAX; cpu++)
        sum += __atomic_load_n(&on_cpu[cpu].of[counter], __ATOMIC_RELAXED);
    return sum;
}

RSM_VISIBLE const char *rsm_subject_name(void)
{
    return "split";
}
