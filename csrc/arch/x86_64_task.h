/* What the driver reads from a stopped task's registers, and how it stops one, for x86-64. */
#ifndef RSM_ARCH_X86_64_TASK_H
#define RSM_ARCH_X86_64_TASK_H

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>

#define RSM_BREAKPOINT 0xccu /* int3; the task stops behind it */
#define RSM_BREAKPOINT_MASK 0xffu

/* The thread pointer is the base of %fs (psABI 3.4.6). Returns 0 or errno; EINVAL where the task runs 32-bit code,
 * whose NT_PRSTATUS is shorter. */
static inline int rsm_task_registers(pid_t tid, uint64_t *thread_pointer, uint64_t *program_counter)
{
    struct user_regs_struct registers;
    struct iovec part = {&registers, sizeof(registers)};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &part) != 0)
        return errno;
    if (part.iov_len != sizeof(registers))
        return EINVAL;
    *thread_pointer = registers.fs_base;
    *program_counter = registers.rip;
    return 0;
}

struct rsm_task_gate { /* of a stopped task; `magic` is only a gate's behind its breakpoint */
    uint64_t magic;
    uint64_t role;
    uint64_t program_counter;
};

static inline int rsm_task_gate(pid_t tid, struct rsm_task_gate *gate)
{
    struct user_regs_struct registers;
    struct iovec part = {&registers, sizeof(registers)};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &part) != 0)
        return errno;
    gate->magic = registers.rax;
    gate->role = registers.rdi;
    gate->program_counter = registers.rip;
    return 0;
}

/* A debug register: stops the task behind a store to eight bytes (Intel SDM volume 3, "Debug Control Register"). */
static inline int rsm_task_watch(pid_t tid, uint64_t address)
{
    enum { ENABLED = 1, STORES = 1 << 16, EIGHT_BYTES = 2 << 18 };
    size_t where = offsetof(struct user, u_debugreg[0]), control = offsetof(struct user, u_debugreg[7]);
    if (ptrace(PTRACE_POKEUSER, tid, control, 0) != 0)
        return errno;
    if (!address)
        return 0;
    if (ptrace(PTRACE_POKEUSER, tid, where, address) != 0 ||
        ptrace(PTRACE_POKEUSER, tid, control, ENABLED | STORES | EIGHT_BYTES) != 0)
        return errno;
    return 0;
}

static inline int rsm_task_move(pid_t tid, uint64_t program_counter)
{
    long result = ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rip), program_counter);
    return result < 0 ? errno : 0;
}

#endif
