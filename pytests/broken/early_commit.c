/* Broken: it commits before the last instruction of its critical section. Aborted at the one that is left, it adds
 * again.
 */
#include "split.h"

static int add_in_section(struct rsm_rseq_area *area, uint32_t cpu, uint64_t *counter, uint64_t n)
{
    struct rsm_rseq_descriptor descriptor = {0};
    int done = 0;
    __asm__ goto(RSM_SECTION_OPEN /* rseq_cs = descriptor */
                 ".Lrsm_start%=:\n\t"
                 "cmpl %[cpu], 4(%[area])\n\t"
                 "jne %l[failed]\n\t"
                 "addq %[n], %[counter]\n\t" /* the commit, and not the end */
                 "nopl 0(%%rax)\n\t"
                 ".Lrsm_end%=:\n\t" RSM_SECTION_ABORT("failed")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [counter] "m"(*counter), [n] "r"(n), [descriptor] "m"(descriptor)
                 : "rax", "rdx", "memory", "cc"
                 : failed);
    done = 1;
failed:
    *(volatile uint64_t *)&area->rseq_cs = 0;
    return done;
}

EXPORT void rsm_subject_add(unsigned which, uint64_t n)
{
    struct rsm_rseq_area *area = watched_area();
    for (int tries = area ? TRIES : 0; tries > 0; tries--) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (add_in_section(area, cpu, &split[cpu][which], n))
            return;
    }
    __atomic_fetch_add(&shared[which], n, __ATOMIC_RELAXED);
}
