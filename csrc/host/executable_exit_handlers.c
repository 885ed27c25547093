/* executable.atexit and executable.on_exit. Fired by exit(), the last one registered first; libc may be used. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "probe_libc.h"
#include "steps.h"

static void atexit_handler(void)
{
    RSM_PROBE_LIBC(executable, atexit);
}

#ifndef RSM_ABSENT_on_exit
static void on_exit_handler(int status, void *argument)
{
    (void)status;
    (void)argument;
    RSM_PROBE_LIBC(executable, on_exit);
}
#endif

void rsm_exit_handlers_register(void)
{
    atexit(atexit_handler);
#ifndef RSM_ABSENT_on_exit
    on_exit(on_exit_handler, NULL);
#endif
}
