/* The optional functions of the contract that tell how the last operation was done, for the subjects that use rseq. */
#ifndef RSM_SUBJECT_TOLD_H
#define RSM_SUBJECT_TOLD_H

#include "protection.h"
#include "visible.h"

RSM_VISIBLE int rsm_subject_path(void)
{
    return (int)rsm_this_thread()->path;
}

RSM_VISIBLE unsigned rsm_subject_aborts(void)
{
    return rsm_this_thread()->aborts;
}

/* The area lies in TLS, so it lives as long as its thread, and nobody has to unregister it. */
RSM_VISIBLE int rsm_subject_register(void)
{
    static __thread struct {
        struct rsm_rseq_area area;
        uint8_t rest[RSM_RSEQ_ORIGINAL_SIZE - sizeof(struct rsm_rseq_area)];
    } own __attribute__((aligned(32), tls_model("initial-exec")));
    if (rsm_protected())
        return 0;
    struct rsm_thread *thread = rsm_this_thread();
    if (thread == &rsm_early)
        return RSM_EINVAL;
    own.area.cpu_id = RSM_CPU_ID_UNINITIALIZED;
    int error = rsm_rseq(&own, sizeof(own), 0, RSM_RSEQ_SIGNATURE);
    if (error == 0)
        thread->own = &own.area;
    return error;
}

#endif
