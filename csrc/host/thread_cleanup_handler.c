/* thread.cleanup_handler. Fired by pthread_exit() in a thread that pushed a cleanup handler; libc may be used. */
#define _GNU_SOURCE
#include <pthread.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static void handler(void *argument)
{
    (void)argument;
    RSM_PROBE_LIBC(thread, cleanup_handler);
}

static void *start(void *argument)
{
    rsm_thread_begins();
    pthread_cleanup_push(handler, NULL);
    pthread_exit(argument);
    pthread_cleanup_pop(0);
}

void rsm_thread_cleanup_handler(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, start, NULL) == 0)
        pthread_join(thread, NULL);
}
