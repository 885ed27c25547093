/* The scenario `quick_exit` and its stage executable.quick_exit. Fired by quick_exit(), which runs no other handler and
 * no destructor: should exit() have been called, the atexit() handler ends the process with a failure. libc may be
 * used. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "host.h"
#include "probe_libc.h"

static void handler(void)
{
    RSM_PROBE_LIBC(executable, quick_exit);
}

static void not_quick(void)
{
    _Exit(EXIT_FAILURE);
}

int main(void)
{
    rsm_main_begins();
    atexit(not_quick);
    at_quick_exit(handler);
    rsm_reach(RSM_REACHED_EXIT);
    quick_exit(0);
}
