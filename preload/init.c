/* preload.init. Fired as DT_INIT of a preloaded object (linked with -init), before its DT_INIT_ARRAY. libc may be used:
 * the object depends on it, so it is initialized first. */
#define _GNU_SOURCE
#include "dynamic_entry.h"
#include "probe_libc.h"

__attribute__((visibility("default"))) void rsm_preload_init(void)
{
    if (rsm_is_dynamic_entry(DT_INIT, rsm_preload_init))
        RSM_PROBE_LIBC(preload, init);
}
