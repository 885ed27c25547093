/* What the critical sections of all machines share: the area, the descriptor, and what they do, in pseudo-code. The
 * instructions are in arch/<machine>_section.h.
 *
 * A section is the instructions from `start` to `end`. A thread opens it with a store to rseq_cs; from then on the
 * kernel sends the thread to `abort` if it preempts it, migrates it or delivers a signal to it at an address from
 * `start` up to, but not including, `end`. The last instruction is the commit: one store, after which nothing is left
 * to abort. Every section is laid out like this; the labels of the assembly are the same names, .Lrsm_start and so on:
 *
 *              open                        rseq_cs = descriptor {start, end - start, abort}
 *     start:   if (cpu_id != cpu)
 *                  goto moved
 *              ...                         may be done again: loads, and stores that only this thread can see
 *              commit                      one store to data that only sections on this CPU write
 *     end:     return RSM_COMMIT_DONE
 *
 *     moved:   return RSM_COMMIT_MOVED     an exit point: outside of [start, end), listed in __rseq_exit_point_array
 *              <signature>                 the four bytes before an abort handler, which the kernel checks
 *     abort:   return RSM_COMMIT_ABORTED
 *
 *     open:    descriptor = the one in the section __rseq_cs
 *              if (descriptor->start_ip != start)        the relocations of this object are not done
 *                  descriptor = the one on the stack = {0, 0, start, end - start, abort}
 *     watch:   rseq_cs = descriptor
 *
 * What stands between `start` and `end`:
 *
 *     add(cpu, counter, n)             if (cpu_id != cpu) goto moved
 *                                      *counter += n                                       commit
 *     add_here(first, shift, cpus, n)  if (cpu_id >= cpus) goto moved                      unsigned
 *                                      *(first + (cpu_id << shift) bytes) += n             commit
 *     push(cpu, head, node, link)      if (cpu_id != cpu) goto moved
 *                                      *link = *head                                       the node is the caller's yet
 *                                      *head = node                                        commit
 *     pop(cpu, head, offset, popped)   if (cpu_id != cpu) goto moved
 *                                      if (!*head) goto empty                              an exit point like moved
 *                                      *popped = *head                                     the caller's variable
 *                                      *head = *(*head + offset)                           commit
 *     spin(range, release)             while (!*release) {}                                nothing is committed
 *
 * All but add_here() clear rseq_cs afterwards, however they ended. */
#ifndef RSM_CRITICAL_SECTION_H
#define RSM_CRITICAL_SECTION_H

#include <stdint.h>

/* The first 24 bytes of struct rseq (linux/rseq.h), which every kernel with rseq has. */
struct rsm_rseq_area {
    uint32_t cpu_id_start;
    uint32_t cpu_id;
    uint64_t rseq_cs;
    uint32_t flags;
    uint32_t node_id;
};

struct rsm_rseq_descriptor { /* struct rseq_cs of linux/rseq.h */
    uint32_t version;
    uint32_t flags;
    uint64_t start_ip;
    uint64_t post_commit_offset;
    uint64_t abort_ip;
} __attribute__((aligned(32)));

enum rsm_commit {
    RSM_COMMIT_DONE,    /* it took effect, once */
    RSM_COMMIT_MOVED,   /* this thread is not on `cpu`; nothing happened */
    RSM_COMMIT_ABORTED, /* the kernel aborted the section; nothing happened */
    RSM_COMMIT_EMPTY,   /* there is nothing to pop; nothing happened */
};

/* The addresses of a section in which rsm_section_spin() keeps its thread: for a signal handler that looks at the
 * interrupted address. */
struct rsm_section_range {
    uint64_t start;
    uint64_t end;
    uint64_t abort;
};

#endif
