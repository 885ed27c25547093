/* audit.la_version. Fired by the dynamic linker's first call into the library, rtld-audit(7). libc of the audit
 * namespace may be used. */
#define _GNU_SOURCE
#include <link.h>

#include "audit.h"
#include "probe_libc.h"

RSM_AUDIT_HOOK unsigned int la_version(unsigned int version)
{
    RSM_PROBE_LIBC(audit, la_version);
    return version; /* what is hooked here is the same in all versions of the interface */
}
