/* The built-in subject `list`: per-CPU intrusive stacks of nodes with a shared stack beside them (stack.h), for its
 * callers' nodes and, to count with, for accumulators of its own. An add pops an accumulator, which makes it its owner,
 * adds to it with nothing atomic, and pushes it back. If two owners ever held the same one, adds would be lost; a
 * thread that ends while it owns one takes it out of circulation, but what is in it counts. Where no accumulator is
 * left, a shared counter is added to with an atomic. */
#include "stack.h"
#include "told.h"

#define ACCUMULATORS 256

struct accumulator {
    struct rsm_subject_node node; /* first: the address of one is the other's */
    uint64_t of[RSM_SUBJECT_COUNTERS];
};

static struct rsm_stacks callers;
static struct rsm_stacks idle;
static struct accumulator accumulator[ACCUMULATORS];
static uint32_t given_out; /* how many accumulators have been used at all */
static uint64_t shared[RSM_SUBJECT_COUNTERS];

static struct accumulator *fresh(void)
{
    uint32_t next = __atomic_load_n(&given_out, __ATOMIC_RELAXED);
    while (next < ACCUMULATORS)
        if (__atomic_compare_exchange_n(&given_out, &next, next + 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return &accumulator[next];
    return 0;
}

RSM_VISIBLE void rsm_subject_add(unsigned counter, uint64_t n)
{
    struct rsm_stack_operation operation = {0, 0, RSM_SHARED_STACK};
    enum rsm_subject_way way = rsm_stack_pop(&idle, &operation);
    int popped = operation.node != 0;
    struct accumulator *mine = popped ? (struct accumulator *)operation.node : fresh();
    if (!mine) {
        __atomic_fetch_add(&shared[counter], n, __ATOMIC_RELAXED);
        rsm_note(RSM_SUBJECT_FALLBACK, operation.aborts);
        return;
    }
    mine->of[counter] += n;
    operation.node = &mine->node;
    enum rsm_subject_way pushed = rsm_stack_push(&idle, &operation);
    rsm_note(popped && pushed != way ? RSM_SUBJECT_FALLBACK : pushed, operation.aborts);
}

RSM_VISIBLE uint64_t rsm_subject_sum(unsigned counter)
{
    uint64_t sum = __atomic_load_n(&shared[counter], __ATOMIC_RELAXED);
    for (unsigned i = 0; i < ACCUMULATORS; i++)
        sum += accumulator[i].of[counter];
    return sum;
}

static void note(enum rsm_subject_way way, const struct rsm_stack_operation *operation)
{
    rsm_note(way, operation->aborts);
    rsm_this_thread()->stack = operation->stack;
}

RSM_VISIBLE void rsm_subject_push(struct rsm_subject_node *node)
{
    struct rsm_stack_operation operation = {node, 0, RSM_SHARED_STACK};
    enum rsm_subject_way way = rsm_stack_push(&callers, &operation);
    note(way, &operation);
}

RSM_VISIBLE struct rsm_subject_node *rsm_subject_pop(void)
{
    struct rsm_stack_operation operation = {0, 0, RSM_SHARED_STACK};
    enum rsm_subject_way way = rsm_stack_pop(&callers, &operation);
    note(way, &operation);
    return operation.node;
}

RSM_VISIBLE int rsm_subject_stack(void)
{
    return rsm_this_thread()->stack;
}

RSM_VISIBLE const char *rsm_subject_name(void)
{
    return "list";
}
