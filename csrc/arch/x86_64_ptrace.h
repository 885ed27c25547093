/* The registers of a stopped task, and where to stop it, for a tracer; for x86-64. Used by csrc/tracer
 * and by the driver's own tracer (native_trace.c). */
#ifndef RSM_ARCH_X86_64_PTRACE_H
#define RSM_ARCH_X86_64_PTRACE_H

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

/* Returns 0 or errno; EINVAL where the task runs 32-bit code, whose NT_PRSTATUS is shorter. */
static inline int rsm_registers_read(pid_t tid, struct user_regs_struct *registers)
{
    struct iovec part = {registers, sizeof(*registers)};
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &part) != 0)
        return errno;
    return part.iov_len == sizeof(*registers) ? 0 : EINVAL;
}

/* The thread pointer is the base of %fs (psABI 3.4.6). Returns 0 or errno. */
static inline int rsm_task_registers(pid_t tid, uint64_t *thread_pointer, uint64_t *program_counter)
{
    struct user_regs_struct registers;
    int error = rsm_registers_read(tid, &registers);
    if (error)
        return error;
    *thread_pointer = registers.fs_base;
    *program_counter = registers.rip;
    return 0;
}

/* What a task that stopped behind a breakpoint of rsm_trap() (x86_64.h) said. Behind any other instruction these are
 * just its registers, and `magic` has no meaning. */
struct rsm_trap {
    uint64_t magic;
    uint64_t argument[2];
    uint64_t program_counter;
};

/* Returns 0 or errno; then *trap is all zero. */
static inline int rsm_trap_read(pid_t tid, struct rsm_trap *trap)
{
    struct user_regs_struct registers;
    int error = rsm_registers_read(tid, &registers);
    *trap = (struct rsm_trap){0, {0, 0}, 0};
    if (!error)
        *trap = (struct rsm_trap){registers.rax, {registers.rdi, registers.rsi}, registers.rip};
    return error;
}

static inline uint64_t rsm_program_counter(pid_t tid)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user, regs.rip), 0);
}

/* Lets the task continue at another address. Returns 0 or errno. */
static inline int rsm_task_move(pid_t tid, uint64_t program_counter)
{
    long result = ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rip), program_counter);
    return result < 0 ? errno : 0;
}

/* A debug register: stops the task behind a store to the eight bytes at `address`; 0: no more (Intel SDM volume 3,
 * "Debug Control Register"). Returns 0 or errno. */
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

#endif
