/* preload.fini. Fired as DT_FINI of a preloaded object (linked with -fini), after its DT_FINI_ARRAY. libc may be used.
 */
#define _GNU_SOURCE
#include "probe_libc.h"

__attribute__((visibility("default"))) void rsm_preload_fini(void)
{
    RSM_PROBE_LIBC(preload, fini);
}
