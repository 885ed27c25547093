/* Broken: it has no bound on its tries. Where every one is aborted, under a tracer that single-steps it, it never ends.
 */
#include "split.h"

EXPORT void rsm_subject_add(unsigned which, uint64_t n)
{
    struct rsm_rseq_area *area = watched_area();
    while (area) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (rsm_section_add(area, cpu, &split[cpu][which], n) == RSM_COMMIT_DONE)
            return;
    }
    __atomic_fetch_add(&shared[which], n, __ATOMIC_RELAXED);
}
