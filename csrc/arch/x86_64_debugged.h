/* A critical section with a label inside, for a debugger to stop at; for x86-64. */
#ifndef RSM_ARCH_X86_64_DEBUGGED_H
#define RSM_ARCH_X86_64_DEBUGGED_H

#include "arch.h"

/* Adds 1 to *counter if this thread is on `cpu` from the comparison to the commit: rsm_section_add() with a global
 * label at the commit, which may stand once in a program only, so the function is not inlined and not cloned. In
 * pseudo-code
 *
 *                            rseq_cs = descriptor
 *     start:                 if (area->cpu_id != cpu) goto moved
 *     rsm_debugged_inside:   *counter += 1                        commit
 *     end:                   rseq_cs = 0
 *
 * Clobbers rax, rdx. Returns RSM_COMMIT_DONE, RSM_COMMIT_MOVED or RSM_COMMIT_ABORTED. */
static __attribute__((noinline, noclone)) enum rsm_commit rsm_debugged_add(struct rsm_rseq_area *area, uint32_t cpu,
                                                                           uint64_t *counter)
{
    struct rsm_rseq_descriptor descriptor = {0};
    enum rsm_commit commit = RSM_COMMIT_DONE;
    __asm__ goto(RSM_SECTION_OPEN         /* rseq_cs = descriptor */
                 RSM_SECTION_START_ON_CPU /* start: */
                 ".globl rsm_debugged_inside\n"
                 "rsm_debugged_inside: addq $1, %[counter]\n\t"
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [counter] "m"(*counter), [descriptor] "m"(descriptor)
                 : "rax", "rdx", "memory", "cc"
                 : moved, aborted);
    goto out;
moved:
    commit = RSM_COMMIT_MOVED;
    goto out;
aborted:
    commit = RSM_COMMIT_ABORTED;
out:
    *(volatile uint64_t *)&area->rseq_cs = 0;
    return commit;
}

#endif
