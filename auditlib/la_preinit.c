/* audit.la_preinit. Fired when all constructors have run, those of the executable included, directly before main()
 * (glibc csu/libc-start.c). libc of the audit namespace may be used. */
#define _GNU_SOURCE
#include <link.h>

#include "audit.h"
#include "probe_libc.h"

RSM_AUDIT_HOOK void la_preinit(uintptr_t *cookie)
{
    (void)cookie;
    RSM_PROBE_LIBC(audit, la_preinit);
}
