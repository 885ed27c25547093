/* audit.la_activity. Fired when the list of mapped objects begins to change, first for the program's own objects. libc
 * of the audit namespace may be used. */
#define _GNU_SOURCE
#include <link.h>

#include "audit.h"
#include "probe_libc.h"

RSM_AUDIT_HOOK void la_activity(uintptr_t *cookie, unsigned int flag)
{
    (void)cookie;
    (void)flag;
    RSM_PROBE_LIBC(audit, la_activity);
}
