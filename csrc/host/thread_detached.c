/* thread.detached. Fired by pthread_create() of a detached thread, which is not joined; that it is detached is
 * read back before the record is taken. libc may be used. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static sem_t done;

static int is_detached(void)
{
    pthread_attr_t attributes;
    int state = PTHREAD_CREATE_JOINABLE;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return 0;
    pthread_attr_getdetachstate(&attributes, &state);
    pthread_attr_destroy(&attributes);
    return state == PTHREAD_CREATE_DETACHED;
}

static void *start(void *argument)
{
    rsm_thread_begins();
    if (is_detached())
        RSM_PROBE_LIBC(thread, detached);
    sem_post(&done);
    return argument;
}

void rsm_thread_detached(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sem_init(&done, 0, 0);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, start, NULL) == 0)
        sem_wait(&done);
    pthread_attr_destroy(&attributes);
}
