/* Runs rounds: all threads push and pop at the same time, then one drains every stack. Half of the threads have
 * unregistered themselves. A timer interrupts each of them; its handler pushes or pops, too, and moves the thread to
 * another CPU. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "rseq/allowed_cpus.h"
#include "rseq/own_registration.h"
#include "verify/history/history.h"
#include "verify/own_timer.h"
#include "verify/random.h"
#include "verify/seconds.h"
#include "verify/supervised.h"

#define OPERATIONS_EACH 32 /* in a round */
#define SIGNAL_PERIOD_NANOSECONDS 50000
#define ENOUGH 200 /* rounds: where the machine is busy, they may take longer than they were given */
#define ROOM 4096  /* in a log: more than a round can need, handlers included */
#define SPINS 50   /* then the CPU is yielded: the thread that is waited for may need it */
#define PAIR_SPINS 20000

struct worker {
    struct history_hand own, handler;
    volatile uint32_t handled;
    volatile uint32_t open; /* handlers may push and pop: the round has begun and is not over for this thread */
    volatile uint32_t round;
    uint64_t signals, migrations;
    int unregistered;
    pthread_t thread;
};

static struct worker worker[HISTORY_THREADS];
static __thread struct worker *volatile self;
static uint32_t arrived, generation; /* of the barrier */
static uint32_t begun;               /* how many threads have begun the round */

/* A barrier that spins, so that threads that run leave it at the same moment, and yields after some spins. */
static void barrier(void)
{
    uint32_t now = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == HISTORY_THREADS + 1) {
        __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&generation, now + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&generation, __ATOMIC_ACQUIRE) == now; spins++)
        if (spins > SPINS)
            sched_yield();
}

/* Lets threads begin two by two: a round is short, and a thread that begins it alone has finished before another
 * begins. It waits a limited time, because the other one may have no CPU. */
static void pair_up(void)
{
    uint32_t wanted = (__atomic_fetch_add(&begun, 1, __ATOMIC_ACQ_REL) | 1) + 1;
    for (int spins = 0; __atomic_load_n(&begun, __ATOMIC_ACQUIRE) < wanted && spins < PAIR_SPINS; spins++)
        ;
}

static void on_signal(int number)
{
    struct worker *worker = self;
    int saved = errno;
    (void)number;
    if (!worker || !worker->open)
        return;
    worker->signals++;
    history_push_or_pop(&worker->handler, worker->round);
    worker->handled++;
    uint32_t choice = random_next(&worker->handler.random);
    if (choice % 4 == 0) {
        unsigned here = cpu_now(), there = (unsigned)cpu_other(here, choice / 4);
        cpu_pin(0, (int)there);
        worker->migrations += there != here;
    }
    errno = saved;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    timer_t timer;
    if (worker->unregistered)
        unregister_area();
    __atomic_fetch_add(&history->registered, (uint32_t)kernel_has_area(), __ATOMIC_RELAXED);
    self = worker;
    own_timer_start(&timer, SIGNAL_PERIOD_NANOSECONDS); /* it ends with the process */
    for (uint32_t round = 0;; round++) {
        history_deal(&worker->own);
        history_deal(&worker->handler);
        worker->round = round;
        barrier();
        if (history->stop)
            return NULL;
        pair_up();
        worker->open = 1;
        for (int i = 0; i < OPERATIONS_EACH; i++)
            history_push_or_pop(&worker->own, round);
        worker->open = 0;
        barrier();
        barrier(); /* the drain is over */
    }
}

static void prepare(struct history_hand *hand, unsigned thread, unsigned context, const volatile uint32_t *handled)
{
    hand->log = &history->log[thread];
    hand->handled = handled;
    hand->thread = (uint8_t)thread;
    hand->context = (uint8_t)context;
    hand->random = 0x2545f4914f6cdd1du * (thread * 2 + context + 1);
}

static void start_workers(void)
{
    static const volatile uint32_t never; /* nothing interrupts a handler */
    for (unsigned i = 0; i < HISTORY_THREADS; i++) {
        prepare(&worker[i].own, i, 0, &worker[i].handled);
        prepare(&worker[i].handler, i, 1, &never);
        worker[i].unregistered = i % 2;
        if (pthread_create(&worker[i].thread, NULL, work, &worker[i]) != 0)
            _exit(3); /* the others would wait for it without end */
    }
}

/* Empties every CPU's stack and the shared one. Bounded: a damaged stack may be a ring. */
static void drain(struct history_hand *hand, uint32_t round, unsigned cpus)
{
    hand->count = 0;
    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        cpu_pin(0, cpu_number(cpu));
        while (hand->count < HISTORY_NODES && !history->damaged && history_pop(hand, round))
            ;
    }
    for (int i = 0; i < HISTORY_NODES; i++)
        if (history->node_state[i] != HISTORY_NODE_HELD)
            history->damaged = 1;
}

static int full(void)
{
    for (int i = 0; i < HISTORY_LOGS; i++)
        if (history->log[i].count + ROOM > history->log[i].capacity)
            return 1;
    return 0;
}

/* Whether no further round is to be made. */
static int done(double elapsed)
{
    int time_is_up = elapsed >= history->seconds;
    int enough = history->rounds >= ENOUGH || elapsed >= history->seconds + EXTRA_SECONDS;
    return (time_is_up && enough) || history->damaged || full();
}

static void conduct(struct history_hand *hand, unsigned cpus)
{
    double start = seconds_now();
    for (;;) {
        history->stop = done(seconds_now() - start);
        if (seconds_now() - start >= history->seconds)
            history->deadline = seconds_now() + HISTORY_HANG_SECONDS;
        barrier();
        if (history->stop)
            break;
        barrier();
        drain(hand, history->rounds, cpus);
        begun = 0;
        history->rounds++;
        barrier();
    }
    history->seconds = seconds_now() - start;
}

void history_work(void)
{
    static const volatile uint32_t never;
    static struct history_hand hand;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    prepare(&hand, HISTORY_THREADS, 0, &never);
    unsigned cpus = cpus_find();
    start_workers();
    conduct(&hand, cpus);
    for (int i = 0; i < HISTORY_THREADS; i++) {
        pthread_join(worker[i].thread, NULL);
        history->signals += worker[i].signals;
        history->migrations += worker[i].migrations;
    }
}
