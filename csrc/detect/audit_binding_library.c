/* The audit library of audit_binding.c. */
#define _GNU_SOURCE
#include <link.h>
#include <string.h>
#include <unistd.h>

#define HOOK __attribute__((visibility("default")))

HOOK unsigned int la_version(unsigned int version)
{
    return version;
}

HOOK unsigned int la_objopen(struct link_map *map, Lmid_t lmid, uintptr_t *cookie)
{
    (void)map;
    (void)lmid;
    (void)cookie;
    return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

HOOK uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to, unsigned int *flags,
                            const char *name)
{
    (void)index;
    (void)from;
    (void)to;
    (void)flags;
    if (strcmp(name, "getppid") == 0 && write(1, "bound ", 6) != 6)
        return 0;
    return symbol->st_value;
}
