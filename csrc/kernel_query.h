/* The in-process oracle: what the kernel holds for this thread, asked without changing it.
 *
 * rseq(area, length, RSEQ_FLAG_UNREGISTER, wrong signature) answers EPERM where exactly that area and length are
 * registered and EINVAL where not, because the kernel compares address, length and signature in that order and refuses
 * at the first difference (kernel/rseq.c, sys_rseq). Whether *another* area is registered is told by a trial
 * registration of a scratch area: it succeeds (and is undone at once) only where there is none. */
#ifndef RSM_KERNEL_QUERY_H
#define RSM_KERNEL_QUERY_H

#include "auxiliary_vector.h"

#define RSM_RSEQ_FLAG_UNREGISTER 1
#define RSM_RSEQ_ORIGINAL_SIZE 32 /* the length that every kernel accepts; glibc 2.35 to 2.40 registers it */
#define RSM_CPU_ID_UNINITIALIZED 0xffffffffu
#define RSM_EPERM 1
#define RSM_EAGAIN 11
#define RSM_EINVAL 22
#define RSM_ENOSYS 38

static inline int rsm_rseq(void *area, uint32_t length, int flags, uint32_t signature)
{
    return -(int)rsm_syscall(RSM_SYS_RSEQ, (long)area, length, flags, signature, 0, 0);
}

/* The lengths that a libc may have registered: the original one, the kernel's feature size as it is, and rounded up to
 * the alignment (glibc 2.41 and later, commits c813c1490d and 93d0bfbe8f). A length not wanted is 0. */
static inline void rsm_registration_lengths(uint32_t length[3])
{
    struct rsm_auxiliary_vector vector;
    rsm_auxiliary_vector_read(&vector);
    uint32_t size = (uint32_t)rsm_auxiliary_vector_value(&vector, RSM_AT_RSEQ_FEATURE_SIZE);
    uint32_t align = (uint32_t)rsm_auxiliary_vector_value(&vector, RSM_AT_RSEQ_ALIGN);
    uint32_t rounded = align ? (size + align - 1) / align * align : 0;
    length[0] = RSM_RSEQ_ORIGINAL_SIZE;
    length[1] = rounded > RSM_RSEQ_ORIGINAL_SIZE ? rounded : 0;
    length[2] = size > RSM_RSEQ_ORIGINAL_SIZE && size != rounded ? size : 0;
}

/* The answer to a query about no area at all: EINVAL from a kernel with rseq, whatever is registered. Any other answer
 * (ENOSYS from an old kernel, anything from a seccomp filter) means that queries tell nothing here. */
static inline int rsm_query_control(void)
{
    return rsm_rseq(0, RSM_RSEQ_ORIGINAL_SIZE, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE + 1);
}

/* Returns the length that `area` is registered with, 0 if it is not; *error is the kernel's last answer. */
static inline uint32_t rsm_query_area(void *area, int *error)
{
    uint32_t length[3];
    *error = rsm_query_control();
    if (*error != RSM_EINVAL || !area)
        return 0;
    rsm_registration_lengths(length);
    for (int i = 0; i < 3; i++) {
        if (!length[i])
            continue;
        *error = rsm_rseq(area, length[i], RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE + 1);
        if (*error == RSM_EPERM)
            return length[i];
    }
    return 0;
}

/* Returns 0 where no area is registered for this thread, else the kernel's answer: EINVAL where there is one. */
static inline int rsm_trial_registration(void)
{
    struct {
        struct rsm_rseq_area area;
        uint8_t rest[RSM_RSEQ_ORIGINAL_SIZE - sizeof(struct rsm_rseq_area)];
    } __attribute__((aligned(32))) scratch = {{0, RSM_CPU_ID_UNINITIALIZED, 0, 0, 0}, {0}};
    int error = rsm_rseq(&scratch, RSM_RSEQ_ORIGINAL_SIZE, 0, RSM_RSEQ_SIGNATURE);
    if (error == 0)
        rsm_rseq(&scratch, RSM_RSEQ_ORIGINAL_SIZE, RSM_RSEQ_FLAG_UNREGISTER, RSM_RSEQ_SIGNATURE);
    return error;
}

#endif
