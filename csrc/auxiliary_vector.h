/* getauxval() for code that runs before libc, or without it: asks the kernel. */
#ifndef RSM_AUXILIARY_VECTOR_H
#define RSM_AUXILIARY_VECTOR_H

#include "arch.h"

#define RSM_AT_PHDR 3
#define RSM_AT_BASE 7
#define RSM_AT_RSEQ_FEATURE_SIZE 27 /* Linux 6.3, commit 317c8194e6ae */
#define RSM_AT_RSEQ_ALIGN 28

struct rsm_auxiliary_vector {
    uint64_t entry[2 * 64]; /* type, value; ended by type AT_NULL (0) */
};

/* Returns the bytes that were read; 0 where the file cannot be had. */
static inline long rsm_auxiliary_vector_file(struct rsm_auxiliary_vector *vector, const char *path)
{
    long fd = rsm_open(path);
    if (fd < 0)
        return 0;
    long size = rsm_syscall(RSM_SYS_READ, fd, (long)vector->entry, sizeof(vector->entry), 0, 0, 0);
    rsm_syscall(RSM_SYS_CLOSE, fd, 0, 0, 0, 0, 0);
    return size;
}

/* /proc/self first: for that file valgrind and qemu-user return the program's own vector, for others and for the prctl
 * theirs. It is the main thread's, and empty once main() has called pthread_exit(); then, and where there is no /proc,
 * PR_GET_AUXV (Linux 6.4, commit ddc65971bb67) or the thread's own file. */
static inline void rsm_auxiliary_vector_read(struct rsm_auxiliary_vector *vector)
{
    enum { PR_GET_AUXV_OPTION = 0x41555856 };
    static const char own[] = "/proc/self/auxv", thread[] = "/proc/thread-self/auxv";
    long size = rsm_auxiliary_vector_file(vector, own);
    if (size < 16)
        size = rsm_syscall(RSM_SYS_PRCTL, PR_GET_AUXV_OPTION, (long)vector->entry, sizeof(vector->entry), 0, 0, 0);
    if (size < 16)
        size = rsm_auxiliary_vector_file(vector, thread);
    if (size < 16 || size > (long)sizeof(vector->entry))
        size = size < 16 ? 16 : (long)sizeof(vector->entry);
    vector->entry[size / 16 * 2 - 2] = 0; /* AT_NULL, also where the file was cut off */
}

static inline uint64_t rsm_auxiliary_vector_value(const struct rsm_auxiliary_vector *vector, uint64_t type)
{
    for (const uint64_t *entry = vector->entry; entry[0] != 0; entry += 2)
        if (entry[0] == type)
            return entry[1];
    return 0;
}

#endif
