/* preload.fini. Fired as DT_FINI of a preloaded object (linked with -fini), after its DT_FINI_ARRAY. libc may be used.
 */
#define _GNU_SOURCE
#include "dynamic_entry.h"
#include "probe_libc.h"

__attribute__((visibility("default"))) void rsm_preload_fini(void)
{
    if (rsm_is_dynamic_entry(DT_FINI, rsm_preload_fini))
        RSM_PROBE_LIBC(preload, fini);
}
