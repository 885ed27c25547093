/* What the parts of `stress` share. Everything that is counted lies in memory that is shared with fork children and
 * with the supervisor, which reports it also when the process that worked has crashed. */
#ifndef RSM_VERIFY_STRESS_STRESS_H
#define RSM_VERIFY_STRESS_STRESS_H

#include <stdint.h>

#include "rseq/allowed_cpus.h"
#include "verify/loaded_subject.h"

#define STRESS_WRITERS_MAX 64
#define STRESS_NODES 256

/* Counters: some that all writers use, one for each kind of writer, and the rest one for each writer. */
#define STRESS_HOT 2
#define STRESS_FIRST_OF_KINDS 16
#define STRESS_FIRST_OF_WRITERS 64
#define STRESS_PROOF_COUNTER 8     /* of share.c: do fork children share the subject's data? */
#define STRESS_COLLISION_COUNTER 9 /* of collide.c alone */

#define STRESS_HANG_SECONDS 8.0 /* how long the work may take to end when it has been told to */

enum stress_mode { STRESS_DEFAULT, STRESS_TUNABLE_OFF, STRESS_HALF_REGISTERED, STRESS_MODES };

enum stress_kind {
    STRESS_MAIN,
    STRESS_REGISTERED,   /* a thread as libc made it */
    STRESS_UNREGISTERED, /* a thread that unregistered the area that it found */
    STRESS_VFORKING,
    STRESS_VFORK_CHILD,
    STRESS_FORKING,
    STRESS_FORK_CHILD,
    STRESS_SHORT_LIVED, /* created again and again; uses the subject in key destructors, too */
    STRESS_COLLIDING,   /* unregistered; carries out the commit of an add at the same moment as another one */
    STRESS_KINDS,
};

/* Where a writer uses the subject. Each has a book of its own, because one interrupts the other. */
enum stress_context { STRESS_BODY, STRESS_HANDLER, STRESS_INNER_HANDLER, STRESS_CONTEXTS };

struct stress_book { /* of one context of one writer, which alone writes it */
    uint64_t added[RSM_SUBJECT_COUNTERS];
    uint64_t adds, pushes, pops, empty;
    uint64_t fast, fallback, aborts;
    uint64_t signals, moves; /* moves: times that it was on another CPU than before */
    uint64_t random;
};

struct stress_writer {
    uint32_t kind;
    uint32_t index;
    uint32_t tid;     /* 0: no thread is this writer now */
    uint32_t context; /* enum stress_context: where it is now */
    uint32_t cpu;
    uint32_t was_registered;
    uint64_t fast_before;
    uint64_t entered;     /* how many threads or processes have been this writer */
    uint64_t registered;  /* how many of them the kernel had an area for */
    uint64_t unprotected; /* fast paths that the subject reported where the kernel had no area */
    struct stress_book book[STRESS_CONTEXTS];
};

enum stress_node_state { STRESS_NODE_STACKED, STRESS_NODE_HELD, STRESS_NODE_SPARE };

enum stress_sharing { STRESS_SHARING_UNKNOWN, STRESS_SHARED, STRESS_OWN };

struct stress_crash {
    int32_t signal;       /* 0: none */
    uint32_t kind;        /* enum stress_kind */
    uint32_t context;     /* enum stress_context */
    uint64_t instruction; /* relative to the subject's base; 0: not the subject's */
};

struct stress {
    uint32_t mode;
    double seconds;
    volatile double deadline; /* when it counts as hung */
    uint32_t stop;            /* the workers end */
    uint32_t calm;            /* the disturbers end */
    uint32_t finished;
    uint32_t writers;
    uint32_t cpus;
    int32_t enroll_error; /* the last errno of rsm_subject_register() that was not 0 */
    uint64_t enrolled;    /* threads that it registered */
    uint32_t sharing;     /* enum stress_sharing */
    char sharing_reason[160];
    struct stress_crash crash;
    uint64_t collisions;
    int64_t collisions_lost;        /* adds that the sum lacks after them */
    uint64_t collision_commit;      /* the instruction, relative to the subject's base; 0: not known */
    uint32_t collision_unprotected; /* the kernel had no area for the thread that came there */
    char collisions_reason[80];     /* why there were none */
    uint64_t signals_sent, affinities_set;
    uint64_t vfork_children, fork_children, threads, short_lived, key_destructors;
    uint64_t own_attempted, own_lost, own_doubled; /* in fork children that do not share the subject's data */
    uint64_t nodes_lost, nodes_doubled, nodes_foreign;
    uint64_t sum[RSM_SUBJECT_COUNTERS];
    struct stress_writer writer[STRESS_WRITERS_MAX];
    uint32_t node_state[STRESS_NODES]; /* enum stress_node_state */
    struct rsm_subject_node node[STRESS_NODES];
};

/* operation.c */
extern struct stress *stress; /* MAP_SHARED */
extern struct loaded_subject subject;

static inline int stress_stopped(void)
{
    return (int)__atomic_load_n(&stress->stop, __ATOMIC_RELAXED);
}

/* run.c */
void stress_work(void);

/* writer.c */
struct stress_writer *stress_writer_new(enum stress_kind kind);
void stress_enter(struct stress_writer *writer);
void stress_leave(struct stress_writer *writer);
void stress_disturb(
    struct stress_writer *writer); /* from here on it is interrupted by a timer, whose handler uses the subject */
void stress_calm(void);            /* to be called by the same thread */
void stress_be_child(void);
void stress_enroll(const struct stress_writer *writer);
void stress_handle_signals(void);
void stress_handle_crashes(void);
uint64_t stress_subject_offset(uint64_t address); /* relative to where it is loaded; 0: not in it */

/* operation.c */
void stress_add(struct stress_book *book, unsigned counter);
void stress_burst(struct stress_writer *writer, unsigned operations);
void stress_work_for(struct stress_writer *writer, unsigned microseconds);
void stress_operation(struct stress_writer *writer, struct stress_book *book);
void stress_push_spare(struct stress_book *book);
int stress_drain(struct stress_book *book);

/* share.c */
void stress_share(struct stress_writer *writer);

/* find_commit.c: the instruction, stepped through in a thread of its own, which is `writer` and unregistered; null: no
 * single one. The action for SIGTRAP is another one afterwards. */
uint8_t *stress_find_commit(struct stress_writer *writer);

/* collide.c */
void stress_collide(double seconds);

/* thread_workers.c, child_workers.c, disturb.c: bodies of threads */
void *stress_registered(void *writer);
void *stress_unregistered(void *writer);
void *stress_churn(void *writers);
void *stress_vforking(void *writers);
void *stress_forking(void *writers);
void *stress_signals(void *unused);
void *stress_migrations(void *unused);

/* report.c */
struct supervised;
void stress_report(const struct supervised *outcome);

#endif
