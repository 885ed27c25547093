/* rseq critical sections for x86-64. What they do stands in pseudo-code in critical_section.h.
 *
 * A critical section is described by a struct rseq_cs (linux/rseq.h): start, length, abort handler. Tools find the
 * descriptors in the section __rseq_cs, so every section has one there. Its three fields need relocations, which are
 * not done yet when an IFUNC resolver runs in an object that is being relocated, so the code compares the stored start
 * with the real one and, where they differ, builds the descriptor on the stack. A descriptor on the stack is safe
 * because rseq_cs is cleared before the frame goes.
 *
 * %= in a label is a number of its own for each copy of the assembly that the compiler makes. */
#ifndef RSM_ARCH_X86_64_SECTION_H
#define RSM_ARCH_X86_64_SECTION_H

#include "critical_section.h"

/* The signature that glibc registers with (sys/rseq.h RSEQ_SIG); it must stand directly before an abort handler. */
#define RSM_RSEQ_SIGNATURE 0x53053053

/* descriptor: {version 0, flags 0, start, end - start, abort}, and a pointer to it in __rseq_cs_ptr_array.
 * In      the labels start, end and abort, which the asm statement has to define
 * Out     the label descriptor; no code */
#define RSM_SECTION_DESCRIBE                                                                                           \
    ".pushsection __rseq_cs, \"aw\"\n\t"                                                                               \
    ".balign 32\n"                                                                                                     \
    ".Lrsm_descriptor%=:\n\t"                                                                                          \
    ".long 0, 0\n\t"                                                                                                   \
    ".quad .Lrsm_start%=, .Lrsm_end%= - .Lrsm_start%=, .Lrsm_abort%=\n\t"                                              \
    ".popsection\n\t"                                                                                                  \
    ".pushsection __rseq_cs_ptr_array, \"aw\"\n\t"                                                                     \
    ".quad .Lrsm_descriptor%=\n\t"                                                                                     \
    ".popsection\n\t"

/* descriptor = the one in __rseq_cs
 * if (descriptor->start_ip != start)
 *     descriptor = %[descriptor] = {.., .., start, end - start, abort}
 * watch: %[area]->rseq_cs = descriptor
 * In      %[area] register, %[descriptor] memory of 32 zeroed bytes, aligned to 32
 * Clobbers rax, rdx, the flags, memory
 * Out     the kernel watches the section */
#define RSM_SECTION_OPEN                                                                                               \
    RSM_SECTION_DESCRIBE                                                                                               \
    "leaq .Lrsm_descriptor%=(%%rip), %%rax\n\t"                                                                        \
    "leaq .Lrsm_start%=(%%rip), %%rdx\n\t"                                                                             \
    "cmpq %%rdx, 8(%%rax)\n\t" /* start_ip */                                                                          \
    "je .Lrsm_watch%=\n\t"                                                                                             \
    "leaq %[descriptor], %%rax\n\t"                                                                                    \
    "movq %%rdx, 8(%%rax)\n\t"                                                                                         \
    "movq $(.Lrsm_end%= - .Lrsm_start%=), 16(%%rax)\n\t" /* post_commit_offset */                                      \
    "leaq .Lrsm_abort%=(%%rip), %%rdx\n\t"                                                                             \
    "movq %%rdx, 24(%%rax)\n" /* abort_ip */                                                                           \
    ".Lrsm_watch%=:\n\t"                                                                                               \
    "movq %%rax, 8(%[area])\n" /* rseq_cs */

/* %[area]->rseq_cs = the descriptor in __rseq_cs, for where its relocations are known to be done.
 * In      %[area] register
 * Clobbers rax, memory */
#define RSM_SECTION_OPEN_RELOCATED                                                                                     \
    RSM_SECTION_DESCRIBE                                                                                               \
    "leaq .Lrsm_descriptor%=(%%rip), %%rax\n\t"                                                                        \
    "movq %%rax, 8(%[area])\n" /* rseq_cs */

/* start: if (%[area]->cpu_id != %[cpu]) goto moved
 * In      %[area], %[cpu] registers
 * Clobbers the flags */
#define RSM_SECTION_START_ON_CPU                                                                                       \
    ".Lrsm_start%=:\n\t"                                                                                               \
    "cmpl %[cpu], 4(%[area])\n\t" /* cpu_id */                                                                         \
    "jne .Lrsm_moved%=\n\t"

/* abort: goto the C label `target`. Out of line, in __rseq_failure. Before it stands ud1 with the signature as its
 * displacement, so that a disassembler stays in step.
 * In      nothing: at an abort only the memory and the registers that the section does not write are as they were */
#define RSM_SECTION_ABORT(target)                                                                                      \
    ".pushsection __rseq_failure, \"ax\"\n\t"                                                                          \
    ".byte 0x0f, 0xb9, 0x3d\n\t"                                                                                       \
    ".long 0x53053053\n"                                                                                               \
    ".Lrsm_abort%=:\n\t"                                                                                               \
    "jmp %l[" target "]\n\t"                                                                                           \
    ".popsection\n\t"

/* <target>: goto the C label of the same name. An early exit out of the section, out of line; listed, so that a
 * debugger stepping over the section stops there. */
#define RSM_SECTION_EXIT(target)                                                                                       \
    ".pushsection __rseq_failure, \"ax\"\n"                                                                            \
    ".Lrsm_" target "%=:\n\t"                                                                                          \
    "jmp %l[" target "]\n\t"                                                                                           \
    ".popsection\n\t"                                                                                                  \
    ".pushsection __rseq_exit_point_array, \"aw\"\n\t"                                                                 \
    ".quad .Lrsm_start%=, .Lrsm_" target "%=\n\t"                                                                      \
    ".popsection\n\t"

/* Adds n to *counter if this thread is on `cpu` from the comparison to the commit. */
static inline enum rsm_commit rsm_section_add(struct rsm_rseq_area *area, uint32_t cpu, uint64_t *counter, uint64_t n)
{
    struct rsm_rseq_descriptor descriptor = {0};
    enum rsm_commit commit = RSM_COMMIT_DONE;
    __asm__ goto(RSM_SECTION_OPEN          /* rseq_cs = descriptor */
                 RSM_SECTION_START_ON_CPU  /* start: */
                 "addq %[n], %[counter]\n" /* the commit: the last instruction */
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [counter] "m"(*counter), [n] "r"(n), [descriptor] "m"(descriptor)
                 : "rax", "rdx", "memory", "cc"
                 : moved, aborted);
    goto out;
moved:
    commit = RSM_COMMIT_MOVED;
    goto out;
aborted:
    commit = RSM_COMMIT_ABORTED;
out:
    *(volatile uint64_t *)&area->rseq_cs = 0; /* before the frame that may hold the descriptor goes */
    return commit;
}

/* Adds n to this CPU's counter, wherever this thread is: `first` is CPU 0's, and those of the others, `cpus` in all,
 * follow in steps of 1 << shift bytes. For where the relocations of this object are known to be done. rseq_cs is left
 * as it is, which is right only for an object that is never unloaded (-z nodelete): the kernel reads the descriptor at
 * the next preemption. RSM_COMMIT_MOVED: cpu_id is not below `cpus`; -1 and -2 are not, because they are compared as
 * unsigned numbers. */
static inline enum rsm_commit rsm_section_add_here(struct rsm_rseq_area *area, uint64_t *first, uint8_t shift,
                                                   uint32_t cpus, uint64_t n)
{
    __asm__ goto(RSM_SECTION_OPEN_RELOCATED /* rseq_cs = descriptor */
                 ".Lrsm_start%=:\n\t"
                 "movl 4(%[area]), %%eax\n\t" /* cpu_id */
                 "cmpl %[cpus], %%eax\n\t"
                 "jae .Lrsm_moved%=\n\t"
                 "shlq %[shift], %%rax\n\t"
                 "addq %[n], (%[first], %%rax)\n" /* the commit */
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [first] "r"(first), [shift] "cI"(shift), [n] "er"(n), [cpus] "ri"(cpus)
                 : "rax", "memory", "cc"
                 : moved, aborted);
    return RSM_COMMIT_DONE;
moved:
    return RSM_COMMIT_MOVED;
aborted:
    return RSM_COMMIT_ABORTED;
}

/* Makes `node` the head of a list that only this CPU's critical sections work on; its link, which is at `link`, leads
 * to the former head. */
static inline enum rsm_commit rsm_section_push(struct rsm_rseq_area *area, uint32_t cpu, void **head, void *node,
                                               void *link)
{
    struct rsm_rseq_descriptor descriptor = {0};
    enum rsm_commit commit = RSM_COMMIT_DONE;
    __asm__ goto(RSM_SECTION_OPEN         /* rseq_cs = descriptor */
                 RSM_SECTION_START_ON_CPU /* start: */
                 "movq (%[head]), %%rdx\n\t"
                 "movq %%rdx, (%[link])\n\t" /* the node is still the caller's */
                 "movq %[node], (%[head])\n" /* the commit */
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [head] "r"(head), [node] "r"(node), [link] "r"(link),
                   [descriptor] "m"(descriptor)
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

/* Takes the head of such a list into *popped, if it has one; the link is `offset` bytes into a node. */
static inline enum rsm_commit rsm_section_pop(struct rsm_rseq_area *area, uint32_t cpu, void **head, uint64_t offset,
                                              void **popped)
{
    struct rsm_rseq_descriptor descriptor = {0};
    enum rsm_commit commit = RSM_COMMIT_DONE;
    __asm__ goto(RSM_SECTION_OPEN         /* rseq_cs = descriptor */
                 RSM_SECTION_START_ON_CPU /* start: */
                 "movq (%[head]), %%rdx\n\t"
                 "testq %%rdx, %%rdx\n\t"
                 "je .Lrsm_empty%=\n\t"
                 "movq %%rdx, (%[popped])\n\t" /* only the caller sees it */
                 "movq (%%rdx, %[offset]), %%rdx\n\t"
                 "movq %%rdx, (%[head])\n" /* the commit */
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_EXIT("empty") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [head] "r"(head), [offset] "r"(offset), [popped] "r"(popped),
                   [descriptor] "m"(descriptor)
                 : "rax", "rdx", "memory", "cc"
                 : moved, empty, aborted);
    goto out;
moved:
    commit = RSM_COMMIT_MOVED;
    goto out;
empty:
    commit = RSM_COMMIT_EMPTY;
    goto out;
aborted:
    commit = RSM_COMMIT_ABORTED;
out:
    *(volatile uint64_t *)&area->rseq_cs = 0;
    return commit;
}

/* Spins inside a critical section until *release is not 0, and does not end otherwise. *range gets the section's
 * addresses first. Returns RSM_COMMIT_ABORTED if the kernel aborted the section, RSM_COMMIT_DONE if the section ran on.
 * Without a registered area (null) it spins just the same. */
static inline enum rsm_commit rsm_section_spin(struct rsm_rseq_area *area, struct rsm_section_range *range,
                                               const uint32_t *release)
{
    struct rsm_rseq_descriptor descriptor = {0};
    struct rsm_rseq_area unused = {0, 0, 0, 0, 0};
    enum rsm_commit commit = RSM_COMMIT_DONE;
    if (!area)
        area = &unused;
    __asm__ goto("leaq .Lrsm_start%=(%%rip), %%rax\n\t"
                 "movq %%rax, 0(%[range])\n\t"
                 "leaq .Lrsm_end%=(%%rip), %%rax\n\t"
                 "movq %%rax, 8(%[range])\n\t"
                 "leaq .Lrsm_abort%=(%%rip), %%rax\n\t"
                 "movq %%rax, 16(%[range])\n\t" RSM_SECTION_OPEN /* rseq_cs = descriptor */
                 ".Lrsm_start%=:\n\t"
                 "cmpl $0, %[release]\n\t"
                 "je .Lrsm_start%=\n"
                 ".Lrsm_end%=:\n\t" RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [range] "r"(range), [release] "m"(*release), [descriptor] "m"(descriptor)
                 : "rax", "rdx", "memory", "cc"
                 : aborted);
    goto out;
aborted:
    commit = RSM_COMMIT_ABORTED;
out:
    *(volatile uint64_t *)&area->rseq_cs = 0;
    return commit;
}

#endif
