/* Broken: the one stack that it speaks of is two, used in turns. No node is lost, but what was pushed last is not what
 * is popped first. Each half is sound: its head carries a tag, so that a pop does not mistake an old head for a new
 * one. */
#include "subject.h"

#define TAG_SHIFT 48 /* user addresses of x86-64 have 47 bits (the kernel's Documentation/arch/x86/x86_64/mm.rst) */
#define ADDRESS_MASK ((1ul << TAG_SHIFT) - 1)

static uint64_t counter[RSM_SUBJECT_COUNTERS];
static uint64_t head[2];
static unsigned turn;

static struct rsm_subject_node *node_of(uint64_t word)
{
    return (struct rsm_subject_node *)(word & ADDRESS_MASK);
}

static int replace(uint64_t *word, uint64_t old, struct rsm_subject_node *node)
{
    uint64_t new = (((old >> TAG_SHIFT) + 1) << TAG_SHIFT) | (uint64_t)node;
    return __atomic_compare_exchange_n(word, &old, new, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

__attribute__((visibility("default"))) void rsm_subject_push(struct rsm_subject_node *node)
{
    uint64_t *word = &head[__atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED) % 2], old;
    do {
        old = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        node->next = node_of(old);
    } while (!replace(word, old, node));
}

static struct rsm_subject_node *pop_from(uint64_t *word)
{
    for (;;) {
        uint64_t old = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        if (!node_of(old) || replace(word, old, node_of(old)->next))
            return node_of(old);
    }
}

__attribute__((visibility("default"))) struct rsm_subject_node *rsm_subject_pop(void)
{
    struct rsm_subject_node *node = pop_from(&head[0]);
    return node ? node : pop_from(&head[1]);
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
