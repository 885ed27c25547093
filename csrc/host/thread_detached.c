/* thread.detached. Fired by pthread_create() of a detached thread, which nobody joins; libc may be used. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>

#include "probe_libc.h"
#include "steps.h"

static sem_t done;

static void *start(void *argument)
{
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
