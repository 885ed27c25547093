/* Broken: the fast path is right, but the fallback reads the CPU and then adds to that CPU's counter without an atomic.
 * By then the thread may be on another CPU, and who is on the old one adds to the same counter. */
#include "split.h"

static int add_in_section(unsigned which, uint64_t n)
{
    struct rsm_rseq_area *area = watched_area();
    for (int tries = 0; tries < TRIES && area; tries++) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (rsm_section_add(area, cpu, &split[cpu][which], n) == RSM_COMMIT_DONE)
            return 1;
    }
    return 0;
}

EXPORT void rsm_subject_add(unsigned which, uint64_t n)
{
    unsigned cpu = 0;
    if (add_in_section(which, n))
        return;
    rsm_syscall(RSM_SYS_GETCPU, (long)&cpu, 0, 0, 0, 0, 0);
    split[cpu][which] += n;
}
