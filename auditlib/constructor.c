/* audit.constructor and audit.destructor. The constructor is fired when the audit library has been loaded into its own
 * namespace, before la_version; the destructor at exit, after those of the program. The namespace has a libc of its
 * own, which may be used. */
#define _GNU_SOURCE
#include "probe_libc.h"

__attribute__((constructor)) static void constructor(void)
{
    RSM_PROBE_LIBC(audit, constructor);
}

__attribute__((destructor)) static void destructor(void)
{
    RSM_PROBE_LIBC(audit, destructor);
}
