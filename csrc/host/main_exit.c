/* The scenario `main_exit` and its stage thread.after_main_exit. Fired in a thread that runs on after main() called
 * pthread_exit(): it has joined the main thread, so the thread that the process began with is gone. libc may be used.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

#include "host.h"
#include "probe_libc.h"

static pthread_t main_thread;

static void *start(void *argument)
{
    rsm_thread_begins();
    if (pthread_join(main_thread, NULL) == 0)
        RSM_PROBE_LIBC(thread, after_main_exit);
    exit(0);
    return argument;
}

int main(void)
{
    pthread_t thread;
    rsm_main_begins();
    main_thread = pthread_self();
    if (pthread_create(&thread, NULL, start, NULL) != 0)
        return 1;
    pthread_exit(NULL);
}
