/* The probe for stages where libc may be called. */
#ifndef RSM_PROBE_LIBC_H
#define RSM_PROBE_LIBC_H

#include <sched.h>
#ifndef RSM_ABSENT_libc_version
#include <gnu/libc-version.h>
#endif

#include "probe.h"

/* Wrappers, because the address of an imported function would be a relocation that early code in the same object
 * does not have yet; a call is bound when it is made. */
static inline int rsm_libc_sched_getcpu(void)
{
    return sched_getcpu();
}

#if defined(RSM_ABSENT_libc_version) && defined(RSM_STATIC)
/* musl's (src/internal/version.c). It is hidden, but a static program is one component with its libc. */
extern const char rsm_weak_libc_version[] __asm__("__libc_version") __attribute__((weak));
#endif

static inline const char *rsm_libc_version(void)
{
#if defined(RSM_ABSENT_libc_version) && defined(RSM_STATIC)
    return rsm_weak_libc_version ? rsm_weak_libc_version : "";
#elif defined(RSM_ABSENT_libc_version)
    return ""; /* only its build id tells which it is */
#else
    return gnu_get_libc_version();
#endif
}

#endif
