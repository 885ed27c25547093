/* Broken: after an abort it returns, as if the add had been done. */
#include "arch.h"
#include "kernel_query.h"
#include "registration.h"
#include "subject.h"

#define TRIES 16

static uint64_t split[RSM_CPU_MAX][RSM_SUBJECT_COUNTERS];
static uint64_t shared[RSM_SUBJECT_COUNTERS];

/* The area, if the kernel watches it. */
static struct rsm_rseq_area *watched_area(void)
{
    struct rsm_registration registration;
    int error;
    rsm_registration_find(&registration);
    if (!rsm_user_registered(&registration) || !rsm_query_area(registration.area, &error))
        return 0;
    return registration.area;
}

__attribute__((visibility("default"))) void rsm_subject_add(unsigned which, uint64_t n)
{
    struct rsm_rseq_area *area = watched_area();
    for (int tries = area ? TRIES : 0; tries > 0; tries--) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (rsm_section_add(area, cpu, &split[cpu][which], n) != RSM_COMMIT_MOVED)
            return;
    }
    __atomic_fetch_add(&shared[which], n, __ATOMIC_RELAXED);
}

__attribute__((visibility("default"))) uint64_t rsm_subject_sum(unsigned which)
{
    uint64_t sum = __atomic_load_n(&shared[which], __ATOMIC_RELAXED);
    for (unsigned cpu = 0; cpu < RSM_CPU_MAX; cpu++)
        sum += split[cpu][which];
    return sum;
}
