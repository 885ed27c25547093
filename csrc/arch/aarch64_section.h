/* rseq critical sections for aarch64. What they do stands in pseudo-code in critical_section.h; why a descriptor may be
 * built on the stack, and what %= is, in arch/x86_64_section.h. A commit is a single store, so an add is a load, an
 * addition and the store. */
#ifndef RSM_ARCH_AARCH64_SECTION_H
#define RSM_ARCH_AARCH64_SECTION_H

#include "critical_section.h"

/* The signature that glibc registers with (sysdeps/unix/sysv/linux/aarch64/bits/rseq.h RSEQ_SIG): brk 0x45e0, which
 * must stand directly before an abort handler. Instructions are little-endian whatever data are. */
#define RSM_RSEQ_SIGNATURE 0xd428bc00

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
 * In      %[area] register, %[descriptor] register: 32 zeroed bytes, aligned to 32
 * Clobbers x9, x10, x11, the flags, memory
 * Out     the kernel watches the section */
#define RSM_SECTION_OPEN                                                                                               \
    RSM_SECTION_DESCRIBE                                                                                               \
    "adrp x9, .Lrsm_descriptor%=\n\t"                                                                                  \
    "add x9, x9, :lo12:.Lrsm_descriptor%=\n\t"                                                                         \
    "adr x10, .Lrsm_start%=\n\t"                                                                                       \
    "ldr x11, [x9, #8]\n\t" /* start_ip */                                                                             \
    "cmp x11, x10\n\t"                                                                                                 \
    "b.eq .Lrsm_watch%=\n\t"                                                                                           \
    "mov x9, %[descriptor]\n\t"                                                                                        \
    "adr x11, .Lrsm_end%=\n\t"                                                                                         \
    "sub x11, x11, x10\n\t"                                                                                            \
    "stp x10, x11, [x9, #8]\n\t" /* start_ip, post_commit_offset */                                                    \
    "adrp x11, .Lrsm_abort%=\n\t"                                                                                      \
    "add x11, x11, :lo12:.Lrsm_abort%=\n\t"                                                                            \
    "str x11, [x9, #24]\n" /* abort_ip */                                                                              \
    ".Lrsm_watch%=:\n\t"                                                                                               \
    "str x9, [%[area], #8]\n" /* rseq_cs */

/* %[area]->rseq_cs = the descriptor in __rseq_cs, for where its relocations are known to be done.
 * In      %[area] register
 * Clobbers x9, memory */
#define RSM_SECTION_OPEN_RELOCATED                                                                                     \
    RSM_SECTION_DESCRIBE                                                                                               \
    "adrp x9, .Lrsm_descriptor%=\n\t"                                                                                  \
    "add x9, x9, :lo12:.Lrsm_descriptor%=\n\t"                                                                         \
    "str x9, [%[area], #8]\n" /* rseq_cs */

/* start: if (%[area]->cpu_id != %[cpu]) goto moved
 * In      %[area], %[cpu] registers
 * Clobbers w10, the flags */
#define RSM_SECTION_START_ON_CPU                                                                                       \
    ".Lrsm_start%=:\n\t"                                                                                               \
    "ldr w10, [%[area], #4]\n\t" /* cpu_id */                                                                          \
    "cmp w10, %w[cpu]\n\t"                                                                                             \
    "b.ne .Lrsm_moved%=\n\t"

/* abort: goto the C label `target`. Out of line, in __rseq_failure, behind the signature.
 * In      nothing: at an abort only the memory and the registers that the section does not write are as they were */
#define RSM_SECTION_ABORT(target)                                                                                      \
    ".pushsection __rseq_failure, \"ax\"\n\t"                                                                          \
    ".inst 0xd428bc00\n"                                                                                               \
    ".Lrsm_abort%=:\n\t"                                                                                               \
    "b %l[" target "]\n\t"                                                                                             \
    ".popsection\n\t"

/* <target>: goto the C label of the same name. An early exit out of the section; listed, so that a debugger stepping
 * over the section stops there. It lies behind the code of its own file and not in __rseq_failure: a conditional branch
 * reaches 1 MiB, which is less than a program. */
#define RSM_SECTION_EXIT(target)                                                                                       \
    ".subsection 1\n"                                                                                                  \
    ".Lrsm_" target "%=:\n\t"                                                                                          \
    "b %l[" target "]\n\t"                                                                                             \
    ".previous\n\t"                                                                                                    \
    ".pushsection __rseq_exit_point_array, \"aw\"\n\t"                                                                 \
    ".quad .Lrsm_start%=, .Lrsm_" target "%=\n\t"                                                                      \
    ".popsection\n\t"

/* Adds n to *counter if this thread is on `cpu` from the comparison to the commit. */
static inline enum rsm_commit rsm_section_add(struct rsm_rseq_area *area, uint32_t cpu, uint64_t *counter, uint64_t n)
{
    struct rsm_rseq_descriptor descriptor = {0};
    enum rsm_commit commit = RSM_COMMIT_DONE;
    __asm__ goto(RSM_SECTION_OPEN         /* rseq_cs = descriptor */
                 RSM_SECTION_START_ON_CPU /* start: */
                 "ldr x10, [%[counter]]\n\t"
                 "add x10, x10, %[n]\n\t"
                 "str x10, [%[counter]]\n\t" /* the commit: the last instruction */
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [counter] "r"(counter), [n] "r"(n), [descriptor] "r"(&descriptor)
                 : "x9", "x10", "x11", "memory", "cc"
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

/* Adds n to this CPU's counter, wherever this thread is: `first` is CPU 0's, and those of the others, `cpus` in
 * all, follow in steps of 1 << shift bytes. For where the relocations of this object are known to be done. rseq_cs is
 * left as it is, which is right only for an object that is never unloaded (-z nodelete): the kernel reads the
 * descriptor at the next preemption. RSM_COMMIT_MOVED: cpu_id is not below `cpus`; -1 and -2 are not, because they are
 * compared as unsigned numbers. */
static inline enum rsm_commit rsm_section_add_here(struct rsm_rseq_area *area, uint64_t *first, uint8_t shift,
                                                   uint32_t cpus, uint64_t n)
{
    __asm__ goto(RSM_SECTION_OPEN_RELOCATED /* rseq_cs = descriptor */
                 ".Lrsm_start%=:\n\t"
                 "ldr w10, [%[area], #4]\n\t" /* cpu_id */
                 "cmp w10, %w[cpus]\n\t"
                 "b.hs .Lrsm_moved%=\n\t"
                 "lsl x10, x10, %x[shift]\n\t"
                 "ldr x11, [%[first], x10]\n\t"
                 "add x11, x11, %[n]\n\t"
                 "str x11, [%[first], x10]\n\t" /* the commit */
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [first] "r"(first), [shift] "r"((uint64_t)shift), [n] "r"(n), [cpus] "r"(cpus)
                 : "x9", "x10", "x11", "memory", "cc"
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
                 "ldr x10, [%[head]]\n\t"
                 "str x10, [%[link]]\n\t"     /* the node is still the caller's */
                 "str %[node], [%[head]]\n\t" /* the commit */
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [head] "r"(head), [node] "r"(node), [link] "r"(link),
                   [descriptor] "r"(&descriptor)
                 : "x9", "x10", "x11", "memory", "cc"
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
                 "ldr x10, [%[head]]\n\t"
                 "cbz x10, .Lrsm_empty%=\n\t"
                 "str x10, [%[popped]]\n\t" /* only the caller sees it */
                 "ldr x10, [x10, %[offset]]\n\t"
                 "str x10, [%[head]]\n\t" /* the commit */
                 ".Lrsm_end%=:\n\t" RSM_SECTION_EXIT("moved") RSM_SECTION_EXIT("empty") RSM_SECTION_ABORT("aborted")
                 :
                 : [area] "r"(area), [cpu] "r"(cpu), [head] "r"(head), [offset] "r"(offset), [popped] "r"(popped),
                   [descriptor] "r"(&descriptor)
                 : "x9", "x10", "x11", "memory", "cc"
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

#endif
