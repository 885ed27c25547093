/* Broken: a pop reads the head and its successor and then stores the successor, with nothing that makes the three one.
 * Two pops take the same node, and a push in between is lost. */
#include "subject.h"

static uint64_t counter[RSM_SUBJECT_COUNTERS];
static struct rsm_subject_node *head;

__attribute__((visibility("default"))) void rsm_subject_push(struct rsm_subject_node *node)
{
    node->next = __atomic_load_n(&head, __ATOMIC_ACQUIRE);
    while (!__atomic_compare_exchange_n(&head, &node->next, node, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
}

__attribute__((visibility("default"))) struct rsm_subject_node *rsm_subject_pop(void)
{
    struct rsm_subject_node *node = __atomic_load_n(&head, __ATOMIC_ACQUIRE);
    if (node)
        __atomic_store_n(&head, node->next, __ATOMIC_RELEASE);
    return node;
}

__attribute__((visibility("default"))) int rsm_subject_stack(void)
{
    return -1;
}

__attribute__((visibility("default"))) void rsm_subject_add(unsigned which, uint64_t n)
{
    __atomic_fetch_add(&counter[which], n, __ATOMIC_RELAXED);
}

__attribute__((visibility("default"))) uint64_t rsm_subject_sum(unsigned which)
{
    return counter[which];
}
