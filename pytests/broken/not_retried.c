/* Broken: after an abort it returns, as if the add had been done. */
#include "split.h"

EXPORT void rsm_subject_add(unsigned which, uint64_t n)
{
    struct rsm_rseq_area *area = watched_area();
    for (int tries = area ? TRIES : 0; tries > 0; tries--) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (rsm_section_add(area, cpu, &split[cpu][which], n) != RSM_COMMIT_MOVED)
            return;
    }
    __atomic_fetch_add(&shared[which], n, __ATOMIC_RELAXED);
}
