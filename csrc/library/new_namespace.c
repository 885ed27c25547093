/* library.dlmopen_constructor. Fired by dlmopen(LM_ID_NEWLM); that it is another namespace is checked before the record
 * is taken. The libc that may be used is the new namespace's own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>

#include "probe_libc.h"

static int in_new_namespace(void)
{
    static const char here;
    struct link_map *map = NULL;
    Lmid_t space = LM_ID_BASE;
    Dl_info information;
    return dladdr1(&here, &information, (void **)&map, RTLD_DL_LINKMAP) && dlinfo(map, RTLD_DI_LMID, &space) == 0 &&
           space != LM_ID_BASE;
}

__attribute__((constructor)) static void constructor(void)
{
    if (in_new_namespace())
        RSM_PROBE_LIBC(library, dlmopen_constructor);
}
