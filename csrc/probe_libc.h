/* The probe for stages where libc may be called. */
#ifndef RSM_PROBE_LIBC_H
#define RSM_PROBE_LIBC_H

#include <gnu/libc-version.h>
#include <sched.h>

#include "probe.h"

/* Wrappers, because the address of an imported function would be a relocation that early code in the same object
 * does not have yet; a call is bound when it is made. */
static inline int rsm_libc_sched_getcpu(void)
{
    return sched_getcpu();
}

static inline const char *rsm_libc_version(void)
{
    return gnu_get_libc_version();
}

#endif
