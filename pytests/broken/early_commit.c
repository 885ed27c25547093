/* Broken: it commits before the last instruction of its critical section. Aborted at the one that is left, it adds
 * again.
 */
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

static int add_in_section(struct rsm_rseq_area *area, uint32_t cpu, uint64_t *counter, uint64_t n)
{
    struct rsm_rseq_descriptor descriptor = {0};
    int done = 0;
    __asm__ goto(RSM_SECTION_OPEN "772: cmpl %[cpu], 4(%[area])\n\t"
                                  "jne %l[failed]\n\t"
                                  "addq %[n], %[counter]\n\t" /* the commit, and not the end */
                                  "nopl 0(%%rax)\n\t"
                                  "773:\n\t" RSM_SECTION_ABORT("failed")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [counter] "m"(*counter), [n] "r"(n), [descriptor] "m"(descriptor)
                 : "rax", "rdx", "memory", "cc"
                 : failed);
    done = 1;
failed:
    *(volatile uint64_t *)&area->rseq_cs = 0;
    return done;
}

__attribute__((visibility("default"))) void rsm_subject_add(unsigned which, uint64_t n)
{
    struct rsm_rseq_area *area = watched_area();
    for (int tries = area ? TRIES : 0; tries > 0; tries--) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (add_in_section(area, cpu, &split[cpu][which], n))
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
