/* preload.constructor. Fired from DT_INIT_ARRAY of a preloaded object. libc may be used. */
#define _GNU_SOURCE
#include "probe_libc.h"

__attribute__((constructor)) static void constructor(void)
{
    RSM_PROBE_LIBC(preload, constructor);
}
