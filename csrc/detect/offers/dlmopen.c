/* dlmopen(), with a libc of its own in the new namespace. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stddef.h>

int main(void)
{
    Lmid_t space = LM_ID_BASE;
    Dl_info information;
    struct link_map *map = NULL;
    if (!dladdr1((void *)dlopen, &information, (void **)&map, RTLD_DL_LINKMAP))
        return 1;
    void *own = dlmopen(LM_ID_NEWLM, information.dli_fname, RTLD_LAZY);
    return !own || dlinfo(own, RTLD_DI_LMID, &space) != 0 || space == LM_ID_BASE;
}
