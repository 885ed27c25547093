/* The scenario `unregister` and its stage process.after_unregister. Fired in main(), after a raw
 * rseq(RSEQ_FLAG_UNREGISTER) of the area that libc registered: __rseq_size still says that rseq is in use, only cpu_id
 * tells. Where libc registered none there is
 * nothing to undo, but what the program registered itself. libc may be used. */
#define _GNU_SOURCE
#include "host.h"
#include "kernel_query.h"
#include "probe_libc.h"
#include "rseq/own_area.h"

int main(void)
{
    struct rsm_registration registration;
    int error;
    rsm_main_begins();
    rsm_warm(RSM_STAGE_process_after_unregister);
    rsm_registration_find(&registration);
    uint32_t size = rsm_query_area(registration.area, &error);
    if (rsm_own_area_unregister() != 0)
        return 1;
    if (size && rsm_rseq(registration.area, size, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE) != 0)
        return 1;
    RSM_PROBE_LIBC(process, after_unregister);
    return 0;
}
