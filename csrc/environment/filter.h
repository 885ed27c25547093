/* A seccomp filter that answers rseq(2) itself, and lets every other system call through. */
#ifndef RSM_ENVIRONMENT_FILTER_H
#define RSM_ENVIRONMENT_FILTER_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch.h"

/* What the filter does: answers with an errno, with a success that nothing stands behind, or kills. */
static const struct {
    const char *name;
    uint32_t action;
} rsm_filters[] = {
    {"enosys", SECCOMP_RET_ERRNO | ENOSYS},
    {"eperm", SECCOMP_RET_ERRNO | EPERM},
    {"fake", SECCOMP_RET_ERRNO | 0},
    {"kill", SECCOMP_RET_KILL_PROCESS},
};

/* Returns 0, or -1 with errno set. */
static inline int rsm_filter_install(const char *name)
{
    uint32_t action = SECCOMP_RET_ALLOW;
    for (size_t i = 0; i < sizeof(rsm_filters) / sizeof(rsm_filters[0]); i++)
        if (strcmp(name, rsm_filters[i].name) == 0)
            action = rsm_filters[i].action;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RSM_SYS_RSEQ, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    if (action == SECCOMP_RET_ALLOW) {
        errno = EINVAL;
        return -1;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#endif
