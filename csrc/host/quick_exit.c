/* The scenario `quick_exit` and its stage executable.quick_exit. Fired by quick_exit(), which runs no other handler and
 * no destructor; libc may be used. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "probe_libc.h"

static void handler(void)
{
    RSM_PROBE_LIBC(executable, quick_exit);
}

int main(void)
{
    at_quick_exit(handler);
    quick_exit(0);
}
