/* executable.constructor and executable.destructor. Fired from DT_INIT_ARRAY and DT_FINI_ARRAY of the executable; libc
 * may be used. */
#define _GNU_SOURCE
#include "probe_libc.h"

__attribute__((constructor)) static void constructor(void)
{
    RSM_PROBE_LIBC(executable, constructor);
}

__attribute__((destructor)) static void destructor(void)
{
    RSM_PROBE_LIBC(executable, destructor);
}
