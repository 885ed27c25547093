/* rseq critical sections for aarch64: what arch/x86_64_section.h says of them holds here. A commit is a single store,
 * so an add is a load, an addition and the store. */
#ifndef RSM_ARCH_AARCH64_SECTION_H
#define RSM_ARCH_AARCH64_SECTION_H

#include "critical_section.h"

/* The signature that glibc registers with (sysdeps/unix/sysv/linux/aarch64/bits/rseq.h RSEQ_SIG): brk 0x45e0, which
 * must stand directly before an abort handler. Instructions are little-endian whatever data are. */
#define RSM_RSEQ_SIGNATURE 0xd428bc00

/* The descriptor of a critical section, which runs from label 772 to label 773; its abort handler is label 774. */
#define RSM_SECTION_DESCRIBE                                                                                           \
    ".pushsection __rseq_cs, \"aw\"\n\t"                                                                               \
    ".balign 32\n\t"                                                                                                   \
    "775: .long 0, 0\n\t"                                                                                              \
    ".quad 772f, 773f - 772f, 774f\n\t"                                                                                \
    ".popsection\n\t"                                                                                                  \
    ".pushsection __rseq_cs_ptr_array, \"aw\"\n\t"                                                                     \
    ".quad 775b\n\t"                                                                                                   \
    ".popsection\n\t"

/* Opens it: the store that makes the kernel watch it. Clobbers x9, x10 and x11. */
#define RSM_SECTION_OPEN                                                                                               \
    RSM_SECTION_DESCRIBE                                                                                               \
    "adrp x9, 775b\n\t"                                                                                                \
    "add x9, x9, :lo12:775b\n\t"                                                                                       \
    "adr x10, 772f\n\t"                                                                                                \
    "ldr x11, [x9, #8]\n\t"                                                                                            \
    "cmp x11, x10\n\t"                                                                                                 \
    "b.eq 776f\n\t" /* relocated: use the descriptor in its section */                                                 \
    "mov x9, %[descriptor]\n\t"                                                                                        \
    "adr x11, 773f\n\t"                                                                                                \
    "sub x11, x11, x10\n\t"                                                                                            \
    "stp x10, x11, [x9, #8]\n\t"                                                                                       \
    "adrp x11, 774f\n\t"                                                                                               \
    "add x11, x11, :lo12:774f\n\t"                                                                                     \
    "str x11, [x9, #24]\n\t"                                                                                           \
    "776: str x9, [%[area], #8]\n\t" /* rseq_cs */

/* The same where the relocations are known to be done. Clobbers x9. */
#define RSM_SECTION_OPEN_RELOCATED                                                                                     \
    RSM_SECTION_DESCRIBE                                                                                               \
    "adrp x9, 775b\n\t"                                                                                                \
    "add x9, x9, :lo12:775b\n\t"                                                                                       \
    "str x9, [%[area], #8]\n\t" /* rseq_cs */

#define RSM_SECTION_ABORT(target)                                                                                      \
    ".pushsection __rseq_failure, \"ax\"\n\t"                                                                          \
    ".inst 0xd428bc00\n\t"                                                                                             \
    "774: b %l[" target "]\n\t"                                                                                        \
    ".popsection\n\t"

/* Leaving early is an exit point, listed so that a debugger stepping over the section stops there. It lies behind the
 * code of its own file and not in __rseq_failure: a conditional branch reaches 1 MiB, which is less than a program. */
#define RSM_SECTION_EXIT(label, target)                                                                                \
    ".subsection 1\n\t" #label ": b %l[" target "]\n\t"                                                                \
    ".previous\n\t"                                                                                                    \
    ".pushsection __rseq_exit_point_array, \"aw\"\n\t"                                                                 \
    ".quad 772b, " #label "b\n\t"                                                                                      \
    ".popsection\n\t"

/* The first instructions of a section: is this thread on `cpu`? Clobbers w10. */
#define RSM_SECTION_ON_CPU                                                                                             \
    "772: ldr w10, [%[area], #4]\n\t" /* cpu_id */                                                                     \
    "cmp w10, %w[cpu]\n\t"                                                                                             \
    "b.ne 777f\n\t"

/* Adds n to *counter if this thread is on `cpu` from the comparison to the commit. */
static inline enum rsm_commit rsm_section_add(struct rsm_rseq_area *area, uint32_t cpu, uint64_t *counter, uint64_t n)
{
    struct rsm_rseq_descriptor descriptor = {0};
    enum rsm_commit commit = RSM_COMMIT_DONE;
    __asm__ goto(RSM_SECTION_OPEN RSM_SECTION_ON_CPU "ldr x10, [%[counter]]\n\t"
                                                     "add x10, x10, %[n]\n\t"
                                                     "str x10, [%[counter]]\n\t" /* the commit: the last instruction */
                                                     "773:\n\t" RSM_SECTION_EXIT(777, "moved")
                                                         RSM_SECTION_ABORT("aborted")
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
    __asm__ goto(RSM_SECTION_OPEN_RELOCATED "772: ldr w10, [%[area], #4]\n\t" /* cpu_id */
                                            "cmp w10, %w[cpus]\n\t"
                                            "b.hs 777f\n\t"
                                            "lsl x10, x10, %x[shift]\n\t"
                                            "ldr x11, [%[first], x10]\n\t"
                                            "add x11, x11, %[n]\n\t"
                                            "str x11, [%[first], x10]\n\t" /* the commit */
                                            "773:\n\t" RSM_SECTION_EXIT(777, "moved") RSM_SECTION_ABORT("aborted")
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
    __asm__ goto(RSM_SECTION_OPEN RSM_SECTION_ON_CPU "ldr x10, [%[head]]\n\t"
                                                     "str x10, [%[link]]\n\t"     /* the node is still the caller's */
                                                     "str %[node], [%[head]]\n\t" /* the commit */
                                                     "773:\n\t" RSM_SECTION_EXIT(777, "moved")
                                                         RSM_SECTION_ABORT("aborted")
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
    __asm__ goto(RSM_SECTION_OPEN RSM_SECTION_ON_CPU "ldr x10, [%[head]]\n\t"
                                                     "cbz x10, 778f\n\t"
                                                     "str x10, [%[popped]]\n\t" /* nobody's but the caller's */
                                                     "ldr x10, [x10, %[offset]]\n\t"
                                                     "str x10, [%[head]]\n\t" /* the commit */
                                                     "773:\n\t" RSM_SECTION_EXIT(777, "moved")
                                                         RSM_SECTION_EXIT(778, "empty") RSM_SECTION_ABORT("aborted")
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
