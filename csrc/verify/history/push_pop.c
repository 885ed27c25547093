/* One push or pop, and its record. */
#include "verify/history/history.h"
#include "verify/random.h"

#define VALUE_BITS 26 /* of a hand's own count, below its number */

struct history *history;
struct loaded_subject subject;

static uint32_t tick(void)
{
    return __atomic_fetch_add(&history->clock, 1, __ATOMIC_SEQ_CST);
}

/* A handler that interrupts this function takes the next place. */
static struct history_operation *record(struct history_hand *hand, enum history_kind kind, uint32_t round)
{
    struct history_log *log = hand->log;
    uint32_t index = __atomic_fetch_add(&log->count, 1, __ATOMIC_RELAXED);
    struct history_operation *operation = &log->operation[index];
    operation->kind = (uint8_t)kind;
    operation->round = round;
    operation->thread = hand->thread;
    operation->context = hand->context;
    return operation;
}

/* The subject tells the stack of the last operation of this thread, which may have been a handler's. */
static void note_stack(struct history_operation *operation, const struct history_hand *hand, uint32_t handled)
{
    operation->stack = subject.stack ? (int16_t)subject.stack() : 0;
    operation->known = subject.stack && *hand->handled == handled;
}

static void push(struct history_hand *hand, struct rsm_subject_node *node, uint32_t round)
{
    struct history_operation *operation = record(hand, HISTORY_PUSH, round);
    uint32_t number = hand->thread * 2u + hand->context;
    operation->value = (number << VALUE_BITS) + ++hand->next_value;
    node->value = operation->value;
    __atomic_store_n(&history->node_state[node - history->node], HISTORY_NODE_STACKED, __ATOMIC_RELEASE);
    uint32_t handled = *hand->handled;
    operation->begin = tick();
    subject.push(node);
    operation->end = tick();
    note_stack(operation, hand, handled);
}

/* Takes a popped node into the hand, unless it is none of ours or in another hand already, as after a pop of one node
 * by two threads: then the round is the last. */
static uint32_t take(struct history_hand *hand, struct rsm_subject_node *node)
{
    uint64_t offset = (uint64_t)node - (uint64_t)history->node;
    if (offset % sizeof(*node) || offset / sizeof(*node) >= HISTORY_NODES) {
        history->damaged = 1;
        return HISTORY_NOBODYS;
    }
    uint32_t value = (uint32_t)node->value;
    uint32_t *state = &history->node_state[offset / sizeof(*node)];
    if (__atomic_exchange_n(state, HISTORY_NODE_HELD, __ATOMIC_ACQ_REL) == HISTORY_NODE_STACKED)
        hand->node[hand->count++] = node;
    else
        history->damaged = 1;
    return value;
}

int history_pop(struct history_hand *hand, uint32_t round)
{
    struct history_operation *operation = record(hand, HISTORY_POP, round);
    uint32_t handled = *hand->handled;
    operation->begin = tick();
    struct rsm_subject_node *node = subject.pop();
    operation->end = tick();
    note_stack(operation, hand, handled);
    operation->value = node ? take(hand, node) : 0;
    return node != 0;
}

void history_push_or_pop(struct history_hand *hand, uint32_t round)
{
    if (hand->count && random_next(&hand->random) % 2)
        push(hand, hand->node[--hand->count], round);
    else
        history_pop(hand, round);
}

void history_deal(struct history_hand *hand)
{
    uint32_t first = (hand->thread * 2u + hand->context) * HISTORY_NODES_EACH;
    for (hand->count = 0; hand->count < HISTORY_NODES_EACH; hand->count++)
        hand->node[hand->count] = &history->node[first + hand->count];
}
