/* The two hooks that an audit library needs before any other is called. For the library that has only la_pltenter and
 * la_pltexit besides; fires no stage itself. */
#define _GNU_SOURCE
#include <link.h>

#include "audit.h"

RSM_AUDIT_HOOK unsigned int la_version(unsigned int version)
{
    return version;
}

RSM_AUDIT_HOOK unsigned int la_objopen(struct link_map *map, Lmid_t lmid, uintptr_t *cookie)
{
    (void)map;
    (void)lmid;
    (void)cookie;
    return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

/* Without it nothing is reported for a symbol, and so no call of it. */
RSM_AUDIT_HOOK uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to,
                                      unsigned int *flags, const char *name)
{
    (void)index;
    (void)from;
    (void)to;
    (void)flags;
    (void)name;
    return symbol->st_value;
}
