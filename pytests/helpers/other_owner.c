/* A library that registers an rseq area of its own in the place of libc's: the probe must see "hidden", owner "other".
 */
#define _GNU_SOURCE
#include "host/host.h"
#include "kernel_query.h"
#include "probe_libc.h"
#include "registration.h"

static struct {
    struct rsm_rseq_area area;
    uint8_t rest[RSM_RSEQ_ORIGINAL_SIZE - sizeof(struct rsm_rseq_area)];
} __attribute__((aligned(32))) own = {{0, RSM_CPU_ID_UNINITIALIZED, 0, 0, 0}, {0}};

int main(void)
{
    struct rsm_registration registration;
    int error;
    rsm_reach(RSM_REACHED_MAIN);
    rsm_registration_find(&registration);
    uint32_t size = rsm_query_area(registration.area, &error);
    if (size)
        rsm_rseq(registration.area, size, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE);
    if (rsm_rseq(&own, RSM_RSEQ_ORIGINAL_SIZE, 0, RSM_RSEQ_SIGNATURE) != 0)
        return 1;
    RSM_PROBE_LIBC(process, after_unregister);
    return 0;
}
