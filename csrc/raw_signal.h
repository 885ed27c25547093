/* Installs a handler and sends a signal without libc: rt_sigaction(2) with its own restorer, tgkill(2) to this thread.
 * x86-64. */
#ifndef RSM_RAW_SIGNAL_H
#define RSM_RAW_SIGNAL_H

#include "arch.h"

#define RSM_SIGUSR1 10
#define RSM_SA_RESTORER 0x04000000ul

struct rsm_kernel_sigaction { /* struct kernel_sigaction of the kernel, not libc's */
    void (*handler)(int);
    uint64_t flags;
    void (*restorer)(void);
    uint64_t mask;
};

/* rsm_signal_restorer: rt_sigreturn(). Where the handler returns to; the kernel finds the frame at the stack pointer,
 * so there may be no prologue. Does not return. */
__asm__(".pushsection .text\n\t"
        ".local rsm_signal_restorer\n"
        "rsm_signal_restorer:\n\t"
        "movl $15, %eax\n\t"
        "syscall\n\t"
        ".popsection");
void rsm_signal_restorer(void) __attribute__((visibility("hidden")));

/* Runs `handler` for SIGUSR1 in this thread, then restores the action that was there before. */
static inline void rsm_raw_signal_to_self(void (*handler)(int))
{
    struct rsm_kernel_sigaction action = {handler, RSM_SA_RESTORER, rsm_signal_restorer, 0}, previous;
    long pid = rsm_syscall(RSM_SYS_GETPID, 0, 0, 0, 0, 0, 0);
    long tid = rsm_syscall(RSM_SYS_GETTID, 0, 0, 0, 0, 0, 0);
    if (rsm_syscall(RSM_SYS_RT_SIGACTION, RSM_SIGUSR1, (long)&action, (long)&previous, 8, 0, 0) != 0)
        return;
    rsm_syscall(RSM_SYS_TGKILL, pid, tid, RSM_SIGUSR1, 0, 0, 0);
    rsm_syscall(RSM_SYS_RT_SIGACTION, RSM_SIGUSR1, (long)&previous, 0, 8, 0, 0);
}

#endif
