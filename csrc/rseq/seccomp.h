/* Installs a seccomp filter in front of rseq(2): from now on a call returns `answer`, an errno, without reaching the
 * kernel; 0 is a success that registers nothing, RSM_FILTER_KILLS kills the process. New threads, children and executed
 * programs inherit the filter. */
#ifndef RSM_RSEQ_SECCOMP_H
#define RSM_RSEQ_SECCOMP_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "arch.h"

#define RSM_FILTER_KILLS (-1)

/* Returns 0, or -1 where the kernel takes no filter. */
static inline int rsm_filter_rseq(int answer)
{
    uint32_t action = answer == RSM_FILTER_KILLS ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | (uint32_t)answer;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RSM_AUDIT_ARCH, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RSM_SYS_RSEQ, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? 0 : -1;
}

#endif
