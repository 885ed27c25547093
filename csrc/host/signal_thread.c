/* signal.thread. Fired by raise() in a POSIX thread; async-signal-safe libc may be used. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>

#include "host.h"
#include "probe_libc.h"
#include "steps.h"

static void handler(int signal)
{
    (void)signal;
    RSM_PROBE_LIBC(signal, thread);
}

static void *start(void *argument)
{
    rsm_thread_begins();
    raise(SIGUSR1);
    return argument;
}

void rsm_signal_thread(void)
{
    pthread_t thread;
    signal(SIGUSR1, handler);
    if (pthread_create(&thread, NULL, start, NULL) == 0)
        pthread_join(thread, NULL);
}
