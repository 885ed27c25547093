/* Registers rseq areas of the program's own, with the length and signature that librseq uses.
 *
 * They do not lie in the threads' TLS: an area has to be unregistered before its memory is unmapped (rseq(2)), and some
 * stages come after every place where that could be done. musl unmaps the TLS of a thread that is still running its
 * last instructions; a preemption there makes the kernel write to the area, and kill the process. */
#include "rseq/own_area.h"

#include "kernel_query.h"

#define THREADS_MAX 256

static struct {
    struct rsm_rseq_area area;
    uint8_t rest[RSM_RSEQ_ORIGINAL_SIZE - sizeof(struct rsm_rseq_area)];
} __attribute__((aligned(32))) areas[THREADS_MAX];
static uint32_t used;
static __thread struct rsm_rseq_area *own; /* null: none is registered */

int rsm_own_area_register(void)
{
    uint32_t number = __atomic_fetch_add(&used, 1, __ATOMIC_RELAXED);
    if (number >= THREADS_MAX)
        return RSM_EAGAIN;
    struct rsm_rseq_area *area = &areas[number].area;
    area->cpu_id = RSM_CPU_ID_UNINITIALIZED;
    int error = rsm_rseq(area, RSM_RSEQ_ORIGINAL_SIZE, 0, RSM_RSEQ_SIGNATURE);
    own = error ? 0 : area;
    return error;
}

int rsm_own_area_unregister(void)
{
    int error = own ? rsm_rseq(own, RSM_RSEQ_ORIGINAL_SIZE, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE) : 0;
    own = error ? own : 0;
    return error;
}

struct rsm_rseq_area *rsm_program_area(void)
{
    struct rsm_registration registration;
    rsm_registration_find(&registration);
    if (own)
        return own;
    return rsm_user_registered(&registration) ? registration.area : 0;
}
