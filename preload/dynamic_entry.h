/* Whether a function is the one that this object's dynamic section names. */
#ifndef RSM_DYNAMIC_ENTRY_H
#define RSM_DYNAMIC_ENTRY_H

#include <dlfcn.h>
#include <link.h>

extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

/* tag: DT_INIT or DT_FINI, whose value is an address relative to the load address (gABI chapter 5). */
static inline int rsm_is_dynamic_entry(ElfW(Sxword) tag, void (*function)(void))
{
    Dl_info object;
    if (!dladdr((void *)function, &object))
        return 0;
    for (const ElfW(Dyn) *entry = _DYNAMIC; entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag == tag && (ElfW(Addr))object.dli_fbase + entry->d_un.d_ptr == (ElfW(Addr))function)
            return 1;
    return 0;
}

#endif
