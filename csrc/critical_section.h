/* What critical sections of all machines share: the area, the descriptor, how one ends. */
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

/* Where a thread is that rsm_section_spin() holds: for a signal handler that looks at the interrupted address. */
struct rsm_section_range {
    uint64_t start;
    uint64_t end;
    uint64_t abort;
};

#endif
