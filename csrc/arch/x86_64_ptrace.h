/* What the tracer reads from a stopped task's registers, for x86-64. */
#ifndef RSM_ARCH_X86_64_PTRACE_H
#define RSM_ARCH_X86_64_PTRACE_H

#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

#include "record.h"

/* Whether the task stopped in rsm_stop_for_tracer(); *stage is the stage whose record is being taken. */
static inline int rsm_stopped_for_record(pid_t tid, uint32_t *stage)
{
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, tid, 0, &registers) != 0 || registers.rax != RSM_TRAP_MAGIC ||
        registers.rdi >= RSM_STAGE_MAX)
        return 0;
    *stage = (uint32_t)registers.rdi;
    return 1;
}

#endif
