/* library.constructor, and the needed library that the ifunc stages bind to. Fired from DT_INIT_ARRAY; libc may be
 * used. */
#define _GNU_SOURCE
#include "probe_libc.h"

#define EXPORT __attribute__((visibility("default")))

__attribute__((constructor)) static void constructor(void)
{
    RSM_PROBE_LIBC(library, constructor);
}

/* The preloaded object interposes these two: ifunc/preload.c and ifunc/interposed.c. */
EXPORT void rsm_preload_indirect(void)
{
}

EXPORT void rsm_interposed_indirect(void)
{
}

/* Its relocation calls the interposing resolver while this library is relocated. */
EXPORT void (*rsm_interposed_indirect_address)(void) = rsm_interposed_indirect;
