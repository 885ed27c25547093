/* What the stop of a traced task means, in the words of ptrace(2), for all of our tracers:
 *
 *   csrc/tracer               a process beside each worker of the driver: it starts scenarios and leaves no process
 *                             behind, also when the driver is killed; what it does at a stop is fixed
 *   csrc/native_*.c           in the driver's own process: Python decides at each stop
 *   environment/single_step.c a program of the environment `single-step`, with no driver and no log: any program can be
 *                             run under it
 *
 * They cannot be one loop, because a task's tracer is one thread of one process. They share this file and
 * arch/<machine>_ptrace.h. */
#ifndef RSM_TRACER_STOP_H
#define RSM_TRACER_STOP_H

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>

/* Linux 5.13, commit 90f093fa8ea4; libc headers may be older. */
#define RSM_PTRACE_GET_RSEQ_CONFIGURATION 0x420f

#define RSM_PTRACE_FOLLOW                                                                                              \
    (PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)

/* errno of a request that answered with `result`; 0 where it succeeded. */
static inline int rsm_error_of(long result)
{
    return result < 0 ? errno : 0;
}

/* PTRACE_EVENT_..., 0 for a stop that is none of them, from a wait status. */
static inline int rsm_stop_event(int status)
{
    return status >> 16;
}

/* Whether all threads of the process are stopped, by SIGSTOP or its like; PTRACE_LISTEN leaves it so. Only of a task
 * that was seized: a stop by PTRACE_INTERRUPT, or of a new task, has SIGTRAP. */
static inline int rsm_is_group_stop(int status)
{
    return rsm_stop_event(status) == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP;
}

/* Whether the SIGTRAP that a task has stopped for is that of a single step. That of a breakpoint instruction has
 * SI_KERNEL (arch/x86/kernel/traps.c, do_int3_user), one that was sent has SI_USER or SI_TKILL. A step over a system
 * call has TRAP_BRKPT (arch/x86/kernel/ptrace.c, user_single_step_report). */
static inline int rsm_is_single_step(const siginfo_t *cause)
{
    return cause->si_code == TRAP_TRACE || cause->si_code == TRAP_BRKPT;
}

/* The signal that a stopped task gets when it is restarted; 0 for a stop that is no signal-delivery-stop, or that of a
 * single step. */
static inline int rsm_pending_signal(pid_t tid, int status)
{
    siginfo_t cause = {0};
    if (rsm_stop_event(status))
        return 0;
    if (WSTOPSIG(status) != SIGTRAP || ptrace(PTRACE_GETSIGINFO, tid, 0, &cause) != 0)
        return WSTOPSIG(status);
    return rsm_is_single_step(&cause) ? 0 : SIGTRAP;
}

#endif
