/* Broken: the fast path is right, but the fallback reads the CPU and then adds to that CPU's counter without an atomic.
 * By then the thread may be on another CPU, and who is on the old one adds to the same counter. */
#include "arch.h"
#include "kernel_query.h"
#include "registration.h"
#include "subject.h"

static uint64_t counter[RSM_CPU_MAX][RSM_SUBJECT_COUNTERS];

static int add_in_section(unsigned which, uint64_t n)
{
    struct rsm_registration registration;
    int error;
    rsm_registration_find(&registration);
    if (!rsm_user_registered(&registration) || !rsm_query_area(registration.area, &error))
        return 0;
    for (int tries = 0; tries < 16; tries++) {
        uint32_t cpu = *(volatile uint32_t *)&registration.area->cpu_id_start;
        if (rsm_section_add(registration.area, cpu, &counter[cpu][which], n) == RSM_COMMIT_DONE)
            return 1;
    }
    return 0;
}

__attribute__((visibility("default"))) void rsm_subject_add(unsigned which, uint64_t n)
{
    unsigned cpu = 0;
    if (add_in_section(which, n))
        return;
    rsm_syscall(RSM_SYS_GETCPU, (long)&cpu, 0, 0, 0, 0, 0);
    counter[cpu][which] += n;
}

__attribute__((visibility("default"))) uint64_t rsm_subject_sum(unsigned which)
{
    uint64_t sum = 0;
    for (unsigned cpu = 0; cpu < RSM_CPU_MAX; cpu++)
        sum += counter[cpu][which];
    return sum;
}
