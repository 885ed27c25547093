/* signal.main. Fired by raise() in the main thread; async-signal-safe libc may be used. */
#define _GNU_SOURCE
#include <signal.h>

#include "probe_libc.h"
#include "steps.h"

static void handler(int signal)
{
    (void)signal;
    RSM_PROBE_LIBC(signal, main);
}

void rsm_signal_main(void)
{
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
}
