/* library.dlopen_constructor and library.dlclose_destructor. Fired by dlopen() and by the dlclose() that unloads; libc
 * may be used. */
#define _GNU_SOURCE
#include "probe_libc.h"

__attribute__((constructor)) static void constructor(void)
{
    RSM_PROBE_LIBC(library, dlopen_constructor);
}

__attribute__((destructor)) static void destructor(void)
{
    RSM_PROBE_LIBC(library, dlclose_destructor);
}
