/* What the parts of `history` share, and the record of an operation, which the driver reads (verify/history.py). */
#ifndef RSM_VERIFY_HISTORY_HISTORY_H
#define RSM_VERIFY_HISTORY_HISTORY_H

#include <stdint.h>

#include "verify/loaded_subject.h"

#define HISTORY_THREADS 4
#define HISTORY_LOGS (HISTORY_THREADS + 1) /* the last is that of the draining thread */
#define HISTORY_NODES_EACH 4               /* of each thread, and as many of its signal handler */
#define HISTORY_NODES (2 * HISTORY_THREADS * HISTORY_NODES_EACH)
#define HISTORY_HANG_SECONDS 8.0    /* how long a round may take */
#define HISTORY_NOBODYS 0xffffffffu /* as a value: what was popped is none of our nodes */

enum history_kind { HISTORY_PUSH = 1, HISTORY_POP = 2 };

struct history_operation {
    uint32_t begin, end; /* of one clock that ticks at every begin and every end: the real-time order, exactly */
    uint32_t value;      /* no two pushes have the same; 0: the pop found nothing */
    uint32_t round;
    int16_t stack;   /* rsm_subject_stack() */
    uint8_t known;   /* 0: `stack` may be that of a signal handler that came in between, or the subject has no such
                        function */
    uint8_t kind;    /* enum history_kind */
    uint8_t thread;  /* HISTORY_THREADS: the draining one */
    uint8_t context; /* 1: in a signal handler */
    uint8_t unused[2];
};
_Static_assert(sizeof(struct history_operation) == 24, "as verify/history.py reads it");

struct history_log {
    uint32_t count;
    uint32_t capacity;
    struct history_operation *operation; /* in the file that the driver gave */
};

enum history_node_state { HISTORY_NODE_HELD, HISTORY_NODE_STACKED };

struct history { /* MAP_SHARED: the supervisor reads it also after a crash of the work */
    double seconds;
    volatile double deadline; /* when it counts as hung */
    uint32_t stop;            /* no further round */
    uint32_t clock;
    uint32_t rounds; /* that were finished */
    uint32_t registered;
    uint32_t damaged; /* a round did not end with every node held: later rounds would mean nothing */
    uint64_t signals, migrations;
    struct history_log log[HISTORY_LOGS];
    uint32_t node_state[HISTORY_NODES];
    struct rsm_subject_node node[HISTORY_NODES];
};

void history_work(void); /* rounds.c */

/* push_pop.c: one operation and its record. A hand holds nodes: it is a thread's, or its signal handler's. */
extern struct history *history;
extern struct loaded_subject subject;

struct history_hand {
    struct history_log *log;
    const volatile uint32_t *handled; /* counts the operations of the handlers that interrupt this hand */
    uint32_t next_value;
    uint64_t random;
    uint8_t thread, context;
    uint32_t count;
    struct rsm_subject_node *node[HISTORY_NODES];
};

void history_deal(struct history_hand *hand); /* the nodes that are its own at the start of a round */
void history_push_or_pop(struct history_hand *hand, uint32_t round);
int history_pop(struct history_hand *hand, uint32_t round); /* 0: there was nothing */

#endif
