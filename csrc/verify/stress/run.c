/* Runs all workers at the same time on the same counters, then, when all have ended, reads what the subject holds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "verify/seconds.h"
#include "verify/stress/stress.h"
#include "verify/supervised.h"

#define THREADS_MAX 32
#define PARTIES_MAX 8 /* workers of a kind: more CPUs would not make the same few counters hotter */
#define DRAINS 3
#define COLLIDING 0.15 /* of the time, at least */
#define TOGETHER 0.5   /* of the time, at least, for all that comes after the collisions */
#define ENOUGH_ADDS 10000
#define ENOUGH_EVENTS 10 /* of each kind: children, short-lived threads, signals, moves */
#define IDLE_SECONDS 2.0 /* without an add: then nobody comes any further */

static struct {
    pthread_t thread[THREADS_MAX];
    int count;
} workers, disturbers;

static void start_worker(void *(*body)(void *), void *argument)
{
    if (workers.count < THREADS_MAX && pthread_create(&workers.thread[workers.count], NULL, body, argument) == 0) {
        workers.count++;
        stress->threads++;
    }
}

static void start_disturber(void *(*body)(void *))
{
    if (pthread_create(&disturbers.thread[disturbers.count], NULL, body, NULL) == 0)
        disturbers.count++;
}

static void start_pair(void *(*body)(void *), struct stress_writer *pair[2], enum stress_kind one,
                       enum stress_kind other)
{
    pair[0] = stress_writer_new(one);
    pair[1] = stress_writer_new(other);
    start_worker(body, pair);
}

static void start_all(void)
{
    static struct stress_writer *vforking[2], *forking[2], *short_lived[2];
    unsigned parties = stress->cpus < 2 ? 2 : stress->cpus < PARTIES_MAX ? stress->cpus : PARTIES_MAX;
    for (unsigned i = 0; i < parties; i++)
        start_worker(stress_registered, stress_writer_new(STRESS_REGISTERED));
    for (unsigned i = 0; i < (parties + 1) / 2 || i < 2; i++)
        start_worker(stress_unregistered, stress_writer_new(STRESS_UNREGISTERED));
    start_pair(stress_vforking, vforking, STRESS_VFORKING, STRESS_VFORK_CHILD);
    start_pair(stress_forking, forking, STRESS_FORKING, STRESS_FORK_CHILD);
    start_pair(stress_churn, short_lived, STRESS_SHORT_LIVED, STRESS_SHORT_LIVED);
    start_disturber(stress_signals);
    start_disturber(stress_migrations);
}

struct amount {
    uint64_t adds, signals, moves;
};

static struct amount amount_done(void)
{
    struct amount done = {0, 0, 0};
    for (uint32_t i = 0; i < stress->writers; i++)
        for (unsigned context = 0; context < STRESS_CONTEXTS; context++) {
            const volatile struct stress_book *book = &stress->writer[i].book[context];
            done.adds += book->adds;
            done.signals += book->signals;
            done.moves += book->moves;
        }
    return done;
}

/* Whether all that makes up the stress was there, and not only once. With one CPU it never would be. */
static int is_enough(const struct amount *done)
{
    const volatile struct stress *so_far = stress;
    return so_far->cpus < 2 ||
           (done->adds >= ENOUGH_ADDS && done->signals >= ENOUGH_EVENTS && done->moves >= ENOUGH_EVENTS &&
            so_far->vfork_children >= ENOUGH_EVENTS && so_far->fork_children >= ENOUGH_EVENTS &&
            so_far->short_lived >= ENOUGH_EVENTS && so_far->key_destructors >= ENOUGH_EVENTS);
}

/* Waits for the time to pass, and longer if the machine was so busy that too little was done; a child that crashed
 * stops all earlier. */
static void wait_for_the_end(double seconds)
{
    const struct timespec pause = {0, 5000000};
    double start = seconds_now(), now = start, changed = start;
    struct amount before = {0, 0, 0};
    for (; now - start < seconds + EXTRA_SECONDS && !stress_stopped(); now = seconds_now()) {
        nanosleep(&pause, NULL);
        if (now - start < seconds)
            continue;
        struct amount done = amount_done();
        changed = done.adds != before.adds ? now : changed;
        before = done;
        if (is_enough(&done) || now - changed > IDLE_SECONDS)
            break;
    }
    stress->deadline = now + STRESS_HANG_SECONDS;
}

static void join_all(void)
{
    __atomic_store_n(&stress->calm, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < disturbers.count; i++)
        pthread_join(disturbers.thread[i], NULL);
    __atomic_store_n(&stress->stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < workers.count; i++)
        pthread_join(workers.thread[i], NULL);
}

/* Uses every counter on every CPU, so that what a subject allocates at its first use is there before it is shared. */
static void warm_up(struct stress_book *book)
{
    for (unsigned i = 0; i < stress->cpus; i++) {
        cpu_pin(0, cpu_number(i));
        for (unsigned counter = 0; counter < RSM_SUBJECT_COUNTERS; counter++)
            stress_add(book, counter);
        if (loaded_subject_has_stacks(&subject)) {
            stress_push_spare(book);
            stress_drain(book);
        }
    }
    cpu_unpin(0);
}

/* Empties every CPU's stack and the shared one. What is in none of them is lost. */
static void drain_all(struct stress_book *book)
{
    for (int again = 1, i = 0; again && i < DRAINS; i++) {
        again = 0;
        for (unsigned cpu = 0; cpu < stress->cpus; cpu++) {
            cpu_pin(0, cpu_number(cpu));
            again |= stress_drain(book);
        }
    }
    for (unsigned i = 0; i < STRESS_NODES; i++)
        stress->nodes_lost += stress->node_state[i] != STRESS_NODE_SPARE;
}

void stress_work(void)
{
    stress_handle_crashes();
    struct stress_writer *writer = stress_writer_new(STRESS_MAIN);
    struct stress_book *book = &writer->book[STRESS_BODY];
    for (unsigned i = 0; i < STRESS_NODES; i++)
        stress->node_state[i] = STRESS_NODE_SPARE;
    stress_enroll(writer);
    stress_enter(writer);
    warm_up(book);
    stress_share(writer);
    double start = seconds_now();
    stress_collide(stress->seconds * COLLIDING);
    double left = stress->seconds - (seconds_now() - start);
    left = left > stress->seconds * TOGETHER ? left : stress->seconds * TOGETHER;
    stress->deadline = seconds_now() + left + EXTRA_SECONDS + STRESS_HANG_SECONDS;
    stress_handle_signals();
    start_all();
    wait_for_the_end(left);
    join_all();
    if (loaded_subject_has_stacks(&subject))
        drain_all(book);
    for (unsigned counter = 0; counter < RSM_SUBJECT_COUNTERS; counter++)
        stress->sum[counter] = subject.sum(counter);
    stress_leave(writer);
    stress->seconds = seconds_now() - start;
    stress->finished = 1;
}
