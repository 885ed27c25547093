/* thread.cancelled. Fired by pthread_cancel() of a thread that waits with a cleanup handler pushed; async-signal-safe
 * libc may be used. */
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static void handler(void *argument)
{
    (void)argument;
    RSM_PROBE_LIBC(thread, cancelled);
}

static void *start(void *argument)
{
    rsm_thread_begins();
    pthread_cleanup_push(handler, NULL);
    for (;;)
        pause(); /* a cancellation point */
    pthread_cleanup_pop(0);
    return argument;
}

void rsm_thread_cancelled(void)
{
    pthread_t thread;
    void *result = NULL;
    if (pthread_create(&thread, NULL, start, NULL) != 0)
        return;
    pthread_cancel(thread);
    pthread_join(thread, &result);
    if (result != PTHREAD_CANCELED)
        _exit(1); /* the handler ran for another reason */
}
