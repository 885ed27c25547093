/* What the tracer reads from a stopped task's registers, for x86-64. */
#ifndef RSM_ARCH_X86_64_PTRACE_H
#define RSM_ARCH_X86_64_PTRACE_H

#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

#include "record.h"

/* What a stopped task's breakpoint means: `magic` is one of RSM_TRAP_*, 0 where it is none of the probe's. */
struct rsm_trap {
    uint64_t magic;
    uint32_t stage;
    uint64_t base; /* of RSM_TRAP_STEP */
};

static inline struct rsm_trap rsm_trap_read(pid_t tid)
{
    struct user_regs_struct registers;
    struct rsm_trap trap = {0, 0, 0};
    if (ptrace(PTRACE_GETREGS, tid, 0, &registers) != 0 || registers.rdi >= RSM_STAGE_MAX)
        return trap;
    switch (registers.rax) {
    case RSM_TRAP_MAGIC:
    case RSM_TRAP_STEP:
    case RSM_TRAP_STEP_END:
    case RSM_TRAP_FREE:
    case RSM_TRAP_FREE_END:
        trap.magic = registers.rax;
    }
    trap.stage = (uint32_t)registers.rdi;
    trap.base = registers.rsi;
    return trap;
}

static inline uint64_t rsm_program_counter(pid_t tid)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user, regs.rip), 0);
}

#endif
