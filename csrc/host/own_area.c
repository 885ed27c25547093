/* The program's own rseq area: initial-exec TLS, registered with the length and signature that librseq uses. */
#include "own_area.h"

#include "kernel_query.h"

static __thread struct {
    struct rsm_rseq_area area;
    uint8_t rest[RSM_RSEQ_ORIGINAL_SIZE - sizeof(struct rsm_rseq_area)];
} own __attribute__((aligned(32))) = {{0, RSM_CPU_ID_UNINITIALIZED, 0, 0, 0}, {0}};
static __thread int registered;

int rsm_own_area_register(void)
{
    int error = rsm_rseq(&own, RSM_RSEQ_ORIGINAL_SIZE, 0, RSM_RSEQ_SIGNATURE);
    registered = error == 0;
    return error;
}

int rsm_own_area_unregister(void)
{
    int error = registered ? rsm_rseq(&own, RSM_RSEQ_ORIGINAL_SIZE, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE) : 0;
    registered = registered && error != 0;
    return error;
}

struct rsm_rseq_area *rsm_program_area(void)
{
    struct rsm_registration registration;
    rsm_registration_find(&registration);
    if (registered)
        return &own.area;
    return rsm_user_registered(&registration) ? registration.area : 0;
}
