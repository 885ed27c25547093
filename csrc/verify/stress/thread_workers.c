/* Threads that use the subject: as libc registered them, unregistered by themselves, and short-lived ones. */
#define _GNU_SOURCE
#include <pthread.h>

#include "rseq/own_registration.h"
#include "verify/stress/stress.h"

#define BURST 64
#define NODES_TO_START_WITH 8
#define DESTRUCTOR_ROUNDS 2 /* of at least PTHREAD_DESTRUCTOR_ITERATIONS */

static void work_until_stopped(struct stress_writer *writer)
{
    stress_enter(writer);
    stress_disturb(writer);
    for (int i = 0; loaded_subject_has_stacks(&subject) && i < NODES_TO_START_WITH; i++)
        stress_push_spare(&writer->book[STRESS_BODY]);
    while (!stress_stopped())
        stress_burst(writer, BURST);
    stress_calm();
    stress_leave(writer);
}

void *stress_registered(void *writer)
{
    stress_enroll(writer);
    work_until_stopped(writer);
    return NULL;
}

void *stress_unregistered(void *writer)
{
    unregister_area();
    work_until_stopped(writer);
    return NULL;
}

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

struct short_lived { /* what the thread's key holds */
    struct stress_writer *writer;
    int rounds;
};

/* Works where thread-local data are being torn down, and again in a later round. */
static void on_thread_end(void *value)
{
    struct short_lived *life = value;
    stress_burst(life->writer, BURST / 4);
    __atomic_fetch_add(&stress->key_destructors, 1, __ATOMIC_RELAXED);
    if (--life->rounds > 0) {
        pthread_setspecific(key, life);
        return;
    }
    stress_calm();
    stress_leave(life->writer);
}

static void make_key(void)
{
    pthread_key_create(&key, on_thread_end);
}

/* Every second one unregisters itself half-way. */
static void *live_shortly(void *argument)
{
    struct short_lived *life = argument;
    stress_enroll(life->writer);
    stress_enter(life->writer);
    stress_disturb(life->writer);
    pthread_setspecific(key, life);
    stress_burst(life->writer, BURST / 2);
    if (life->writer->entered % 2) {
        stress_calm();
        stress_leave(life->writer);
        unregister_area();
        stress_enter(life->writer);
        stress_disturb(life->writer);
    }
    stress_burst(life->writer, BURST / 2);
    return NULL;
}

/* Creates threads two at a time, so that one begins while another ends. */
void *stress_churn(void *writers)
{
    struct stress_writer **writer = writers;
    struct short_lived life[2];
    pthread_t thread[2];
    int alive[2] = {0, 0};
    pthread_once(&key_once, make_key);
    for (unsigned turn = 0; !stress_stopped() || alive[0] || alive[1]; turn++) {
        unsigned i = turn % 2;
        if (alive[i])
            pthread_join(thread[i], NULL);
        life[i] = (struct short_lived){writer[i], DESTRUCTOR_ROUNDS};
        alive[i] = !stress_stopped() && pthread_create(&thread[i], NULL, live_shortly, &life[i]) == 0;
        stress->short_lived += (uint64_t)alive[i];
    }
    return NULL;
}
