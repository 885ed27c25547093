/* preload.destructor. Fired from DT_FINI_ARRAY of a preloaded object, at exit. libc may be used. */
#define _GNU_SOURCE
#include "probe_libc.h"

__attribute__((destructor)) static void destructor(void)
{
    RSM_PROBE_LIBC(preload, destructor);
}
