/* Stacks of nodes, one a CPU and one that all share. A CPU's stack is worked on only in critical sections on that CPU,
 * the shared one only with compare-and-exchange of its head and a tag, so that a head that was popped and pushed
 * again is not taken for one that never changed. A thread that may not use its CPU's stack uses the shared one; one
 * that finds its CPU's stack empty looks there, too.
 *
 * The nodes are the callers'. Their memory has to stay readable for as long as a thread may pop from the shared stack:
 * one that loses the race for a node has already read its next, and drops it. */
#ifndef RSM_SUBJECT_STACK_H
#define RSM_SUBJECT_STACK_H

#include "protection.h"
#include "record.h"

#define RSM_SHARED_STACK (-1)

struct rsm_cpu_head {
    struct rsm_subject_node *head;
} __attribute__((aligned(64)));

struct rsm_stacks {
    struct rsm_cpu_head cpu[RSM_CPU_MAX];
    struct rsm_pair shared; /* head and tag */
};

struct rsm_stack_operation {
    struct rsm_subject_node *node; /* to push, or what was popped */
    uint32_t aborts;
    int32_t stack;
};

static inline void rsm_shared_push(struct rsm_pair *shared, struct rsm_subject_node *node)
{
    struct rsm_pair old, new;
    do {
        old = rsm_pair_load(shared);
        __atomic_store_n(&node->next, (struct rsm_subject_node *)old.low, __ATOMIC_RELAXED);
        new = (struct rsm_pair){(uint64_t)node, old.high + 1};
    } while (!rsm_pair_exchange(shared, old, new));
}

/* The next of a head that another thread has popped meanwhile may be anything: the exchange fails then. */
static inline struct rsm_subject_node *rsm_shared_pop(struct rsm_pair *shared)
{
    struct rsm_pair old, new;
    do {
        old = rsm_pair_load(shared);
        struct rsm_subject_node *node = (struct rsm_subject_node *)old.low;
        if (!node)
            return 0;
        new = (struct rsm_pair){(uint64_t)__atomic_load_n(&node->next, __ATOMIC_RELAXED), old.high + 1};
    } while (!rsm_pair_exchange(shared, old, new));
    return (struct rsm_subject_node *)old.low;
}

/* One try in a critical section. Returns RSM_COMMIT_DONE if it took effect. */
typedef enum rsm_commit rsm_stack_section(struct rsm_rseq_area *area, uint32_t cpu, struct rsm_subject_node **head,
                                          struct rsm_stack_operation *operation);

static inline enum rsm_commit rsm_stack_try_push(struct rsm_rseq_area *area, uint32_t cpu,
                                                 struct rsm_subject_node **head, struct rsm_stack_operation *operation)
{
    return rsm_section_push(area, cpu, (void **)head, operation->node, &operation->node->next);
}

static inline enum rsm_commit rsm_stack_try_pop(struct rsm_rseq_area *area, uint32_t cpu,
                                                struct rsm_subject_node **head, struct rsm_stack_operation *operation)
{
    return rsm_section_pop(area, cpu, (void **)head, offsetof(struct rsm_subject_node, next),
                           (void **)&operation->node);
}

/* Tries `section` on this CPU's stack. Returns RSM_COMMIT_DONE, RSM_COMMIT_EMPTY, or anything else for the fallback. */
static inline enum rsm_commit rsm_stack_fast(struct rsm_stacks *stacks, rsm_stack_section *section,
                                             struct rsm_stack_operation *operation)
{
    struct rsm_rseq_area *area = rsm_protected();
    for (int tries = 0; tries < RSM_TRIES && area; tries++) {
        uint32_t cpu = *(volatile uint32_t *)&area->cpu_id_start;
        if (cpu >= RSM_CPU_MAX)
            break;
        enum rsm_commit commit = section(area, cpu, &stacks->cpu[cpu].head, operation);
        operation->stack = (int32_t)cpu;
        if (commit == RSM_COMMIT_DONE || commit == RSM_COMMIT_EMPTY)
            return commit;
        if (commit == RSM_COMMIT_ABORTED)
            operation->aborts++;
        else
            area = rsm_doubt();
    }
    return RSM_COMMIT_ABORTED;
}

/* Returns how it was done. */
static inline enum rsm_subject_way rsm_stack_push(struct rsm_stacks *stacks, struct rsm_stack_operation *operation)
{
    if (rsm_stack_fast(stacks, rsm_stack_try_push, operation) == RSM_COMMIT_DONE)
        return RSM_SUBJECT_FAST;
    rsm_shared_push(&stacks->shared, operation->node);
    operation->stack = RSM_SHARED_STACK;
    return RSM_SUBJECT_FALLBACK;
}

/* operation->node is null where both stacks are empty. */
static inline enum rsm_subject_way rsm_stack_pop(struct rsm_stacks *stacks, struct rsm_stack_operation *operation)
{
    if (rsm_stack_fast(stacks, rsm_stack_try_pop, operation) == RSM_COMMIT_DONE)
        return RSM_SUBJECT_FAST;
    operation->node = rsm_shared_pop(&stacks->shared);
    operation->stack = RSM_SHARED_STACK;
    return RSM_SUBJECT_FALLBACK;
}

#endif
