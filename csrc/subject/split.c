/* The built-in subject `split`: each CPU has counters that only critical sections add to, and all CPUs share counters
 * that only atomics add to. A sum is over both. The two never write the same word, so a thread in a critical section
 * and one in the fallback cannot lose each other's adds. */
#include "told.h"

struct counters {
    uint64_t of[RSM_SUBJECT_COUNTERS];
} __attribute__((aligned(64)));

static struct counters on_cpu[RSM_CPU_MAX]; /* memory that is never touched is never there */
static struct counters shared;

static inline void add_shared(unsigned counter, uint64_t n, uint32_t aborts)
{
    __atomic_fetch_add(&shared.of[counter], n, __ATOMIC_RELAXED);
    rsm_note(RSM_SUBJECT_FALLBACK, aborts);
}

/* In a thread that is not known to be protected, or was not on its CPU to the end. */
static __attribute__((noinline, cold)) void add_carefully(unsigned counter, uint64_t n, uint32_t aborts)
{
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
    add_shared(counter, n, aborts);
}

/* The fast path: one section, whose descriptor is relocated. What is told of it is written only where it is another
 * thing than the last time. */
RSM_VISIBLE void rsm_subject_add(unsigned counter, uint64_t n)
{
    struct rsm_thread *thread = rsm_confirmed();
    if (!thread) {
        if (rsm_surely_unprotected())
            add_shared(counter, n, 0);
        else
            add_carefully(counter, n, 0);
        return;
    }
    struct rsm_rseq_area *area = thread->area;
    uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
    enum rsm_commit commit = RSM_COMMIT_MOVED;
    if (__builtin_expect(cpu < RSM_CPU_MAX, 1))
        commit = rsm_section_add_relocated(area, cpu, &on_cpu[cpu].of[counter], n);
    if (__builtin_expect(commit != RSM_COMMIT_DONE, 0))
        add_carefully(counter, n, commit == RSM_COMMIT_ABORTED);
    else if (__builtin_expect(thread->told.path != RSM_SUBJECT_FAST || thread->told.aborts, 0))
        rsm_note(RSM_SUBJECT_FAST, 0);
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
