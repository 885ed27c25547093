/* The optional functions of the contract that tell how the last operation was done, for the subjects that use rseq. */
#ifndef RSM_SUBJECT_TOLD_H
#define RSM_SUBJECT_TOLD_H

#include "protection.h"
#include "visible.h"

RSM_VISIBLE int rsm_subject_path(void)
{
    return (int)rsm_this_thread()->told.path;
}

RSM_VISIBLE unsigned rsm_subject_aborts(void)
{
    return rsm_this_thread()->told.aborts;
}

/* The child of a vfork() must not register the area that its parent has registered: the child's CPU would be written
 * into it, and the kernel need not write the parent's again when the parent resumes. */
RSM_VISIBLE int rsm_subject_register(void)
{
    enum { EBUSY_NUMBER = 16 };
    if (rsm_protected())
        return 0;
    if (rsm_readiness == RSM_EARLY)
        return RSM_EINVAL; /* there is no TLS yet */
    if ((rsm_this_thread()->confirmed & 1) && rsm_enrolled_area())
        return EBUSY_NUMBER;
    rsm_own_area = (struct rsm_own_area){.area = {.cpu_id = RSM_CPU_ID_UNINITIALIZED}};
    return rsm_rseq(&rsm_own_area, sizeof(rsm_own_area), 0, RSM_RSEQ_SIGNATURE);
}

#endif
