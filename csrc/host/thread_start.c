/* thread.start. Fired by pthread_create(), in the new thread; libc may be used. */
#define _GNU_SOURCE
#include <pthread.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static void *start(void *argument)
{
    rsm_thread_begins();
    RSM_PROBE_LIBC(thread, start);
    return argument;
}

void rsm_thread_start(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, start, NULL) == 0)
        pthread_join(thread, NULL);
}
