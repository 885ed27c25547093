/* audit.la_objsearch, audit.la_objopen, audit.la_objclose. Fired when the dynamic linker searches for, has mapped, and
 * is about to unmap an object. libc of the audit namespace may be used. */
#define _GNU_SOURCE
#include <link.h>
#include <string.h>

#include "audit.h"
#include "probe_libc.h"

RSM_AUDIT_HOOK char *la_objsearch(const char *name, uintptr_t *cookie, unsigned int flag)
{
    (void)cookie;
    (void)flag;
    RSM_PROBE_LIBC(audit, la_objsearch);
    return (char *)name;
}

RSM_AUDIT_HOOK unsigned int la_objopen(struct link_map *map, Lmid_t lmid, uintptr_t *cookie)
{
    (void)lmid;
    *cookie = (uintptr_t)map;
    RSM_PROBE_LIBC(audit, la_objopen);
    return LA_FLG_BINDTO | LA_FLG_BINDFROM; /* asks for la_symbind64 */
}

RSM_AUDIT_HOOK unsigned int la_objclose(uintptr_t *cookie)
{
    const struct link_map *map = (const struct link_map *)*cookie;
    if (strstr(map->l_name, RSM_AUDITED_PLUGIN)) /* others are closed at exit */
        RSM_PROBE_LIBC(audit, la_objclose);
    return 0;
}
