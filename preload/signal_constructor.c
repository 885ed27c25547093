/* signal.constructor. Fired by a signal raised inside a constructor of a preloaded object. libc's async-signal-safe
 * functions may be used. */
#define _GNU_SOURCE
#include <signal.h>

#include "probe_libc.h"

static void handler(int signal)
{
    (void)signal;
    RSM_PROBE_LIBC(signal, constructor);
}

__attribute__((constructor)) static void constructor(void)
{
    struct sigaction action = {.sa_handler = handler}, previous;
    if (sigaction(SIGUSR1, &action, &previous) != 0)
        return;
    raise(SIGUSR1);
    sigaction(SIGUSR1, &previous, NULL);
}
