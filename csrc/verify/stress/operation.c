/* Does one operation of the subject's and enters it in the book of the writer that did it. An entry is made when the
 * operation has returned: nothing is killed in the middle of one unless the subject is at fault. */
#include <time.h>

#include "verify/random.h"
#include "verify/stress/stress.h"

#define BURST 64
#define NODES_AT_ONCE 3
#define SPARE_TRIES 8

struct stress *stress;
struct loaded_subject subject;

static void note_way(struct stress_book *book)
{
    int path = subject.path ? subject.path() : RSM_SUBJECT_UNKNOWN;
    book->fast += path == RSM_SUBJECT_FAST;
    book->fallback += path == RSM_SUBJECT_FALLBACK;
    book->aborts += subject.aborts ? subject.aborts() : 0;
}

void stress_add(struct stress_book *book, unsigned counter)
{
    subject.add(counter, 1);
    book->added[counter]++;
    book->adds++;
    note_way(book);
}

static int index_of(const struct rsm_subject_node *node)
{
    uint64_t offset = (uint64_t)node - (uint64_t)stress->node;
    return offset % sizeof(*node) || offset / sizeof(*node) >= STRESS_NODES ? -1 : (int)(offset / sizeof(*node));
}

static void push(struct stress_book *book, struct rsm_subject_node *node)
{
    /* Before the push: as soon as it is pushed another writer may pop it. */
    __atomic_store_n(&stress->node_state[index_of(node)], STRESS_NODE_STACKED, __ATOMIC_RELEASE);
    subject.push(node);
    book->pushes++;
    note_way(book);
}

/* Null where there was none, or one that must not be used: not ours, or held by another writer already. */
static struct rsm_subject_node *pop(struct stress_book *book)
{
    struct rsm_subject_node *node = subject.pop();
    note_way(book);
    if (!node) {
        book->empty++;
        return 0;
    }
    book->pops++;
    int index = index_of(node);
    if (index < 0) {
        __atomic_fetch_add(&stress->nodes_foreign, 1, __ATOMIC_RELAXED);
        return 0;
    }
    if (__atomic_exchange_n(&stress->node_state[index], STRESS_NODE_HELD, __ATOMIC_ACQ_REL) == STRESS_NODE_STACKED)
        return node;
    __atomic_fetch_add(&stress->nodes_doubled, 1, __ATOMIC_RELAXED);
    return 0;
}

static void retire(const struct rsm_subject_node *node)
{
    __atomic_store_n(&stress->node_state[index_of(node)], STRESS_NODE_SPARE, __ATOMIC_RELEASE);
}

void stress_push_spare(struct stress_book *book)
{
    for (int i = 0; i < SPARE_TRIES; i++) {
        unsigned index = random_next(&book->random) % STRESS_NODES;
        uint32_t expected = STRESS_NODE_SPARE;
        if (__atomic_compare_exchange_n(&stress->node_state[index], &expected, STRESS_NODE_HELD, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            push(book, &stress->node[index]);
            return;
        }
    }
}

/* Takes some nodes and gives them back at once, in the same order or the other, so that nodes come back soon: a stack
 * whose pop takes an old head for a new one is damaged by that. Holds nothing when it returns. */
static void take_and_give_back(struct stress_book *book, unsigned choice)
{
    struct rsm_subject_node *node[NODES_AT_ONCE];
    int count = 0, wanted = 1 + (int)(choice % NODES_AT_ONCE);
    while (count < wanted && (node[count] = pop(book)))
        count++;
    for (int i = 0; i < count; i++)
        push(book, node[choice & 64 ? i : count - 1 - i]);
}

static void use_stack(struct stress_book *book)
{
    unsigned choice = random_next(&book->random);
    if (choice & 1) {
        take_and_give_back(book, choice >> 8);
    } else if (choice & 2) {
        stress_push_spare(book);
    } else {
        struct rsm_subject_node *node = pop(book);
        if (node)
            retire(node);
    }
}

/* Pops until there is nothing, and returns how much that was. Bounded: a damaged stack may be a ring. */
int stress_drain(struct stress_book *book)
{
    for (int count = 0; count <= STRESS_NODES; count++) {
        uint64_t before = book->empty;
        struct rsm_subject_node *node = pop(book);
        if (node)
            retire(node);
        else if (book->empty != before)
            return count;
    }
    return STRESS_NODES + 1;
}

static unsigned choose_counter(const struct stress_writer *writer, unsigned choice)
{
    if (choice % 16 == 0)
        return STRESS_FIRST_OF_KINDS + writer->kind;
    if (choice % 16 == 1)
        return STRESS_FIRST_OF_WRITERS + writer->index;
    return choice / 16 % 8 ? 0 : 1 + choice / 128 % (STRESS_HOT - 1); /* one is the hottest */
}

void stress_operation(struct stress_writer *writer, struct stress_book *book)
{
    unsigned choice = random_next(&book->random);
    if (loaded_subject_has_stacks(&subject) && choice % 4 == 0)
        use_stack(book);
    else
        stress_add(book, choose_counter(writer, choice / 4));
}

void stress_burst(struct stress_writer *writer, unsigned operations)
{
    unsigned cpu = cpu_now();
    writer->book[STRESS_BODY].moves += cpu != writer->cpu;
    writer->cpu = cpu;
    for (unsigned i = 0; i < operations; i++)
        stress_operation(writer, &writer->book[STRESS_BODY]);
}

static uint64_t nanoseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void stress_work_for(struct stress_writer *writer, unsigned microseconds)
{
    uint64_t start = nanoseconds();
    do {
        stress_burst(writer, BURST);
    } while (nanoseconds() - start < microseconds * 1000ul);
}
