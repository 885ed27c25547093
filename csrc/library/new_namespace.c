/* library.dlmopen_constructor. Fired by dlmopen(LM_ID_NEWLM); the libc that may be used is the new namespace's own. */
#define _GNU_SOURCE
#include "probe_libc.h"

__attribute__((constructor)) static void constructor(void)
{
    RSM_PROBE_LIBC(library, dlmopen_constructor);
}
