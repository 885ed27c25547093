/* Broken: after an abort it adds with an atomic, and then tries again. */
#include "split.h"

EXPORT void rsm_subject_add(unsigned which, uint64_t n)
{
    struct rsm_rseq_area *area = watched_area();
    for (int tries = area ? TRIES : 0; tries > 0; tries--) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        enum rsm_commit commit = rsm_section_add(area, cpu, &split[cpu][which], n);
        if (commit == RSM_COMMIT_DONE)
            return;
        if (commit == RSM_COMMIT_ABORTED)
            __atomic_fetch_add(&shared[which], n, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&shared[which], n, __ATOMIC_RELAXED);
}
