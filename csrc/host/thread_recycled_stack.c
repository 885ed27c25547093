/* thread.recycled_stack. Fired in a thread whose stack and TLS block, with the rseq area in it, were an ended thread's:
 * glibc keeps them in a cache. That it is the same block is checked, by its address, before the record is taken. libc
 * may be used. */
#define _GNU_SOURCE
#include <pthread.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static pthread_t ended;

static void *first(void *argument)
{
    rsm_thread_begins();
    rsm_warm(RSM_STAGE_thread_recycled_stack);
    return argument;
}

static void *second(void *argument)
{
    rsm_thread_begins();
    if (pthread_equal(pthread_self(), ended))
        RSM_PROBE_LIBC(thread, recycled_stack);
    return argument;
}

void rsm_thread_recycled_stack(void)
{
    pthread_t thread;
    if (pthread_create(&ended, NULL, first, NULL) != 0)
        return;
    pthread_join(ended, NULL);
    if (pthread_create(&thread, NULL, second, NULL) == 0)
        pthread_join(thread, NULL);
}
