/* ptrace: follow every new task, look at the rseq registration at each record, and stay out of the way otherwise. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "arch/x86_64_ptrace.h"
#include "tracer/tracer.h"

/* Linux 5.13, commit 90f093fa8ea4; libc headers may be older. */
#define REQUEST_GET_RSEQ_CONFIGURATION 0x420f

struct rseq_configuration {
    uint64_t address;
    uint32_t size;
    uint32_t signature;
    uint32_t flags;
    uint32_t padding;
};

int rsm_trace_seize(pid_t pid)
{
    unsigned long options =
        PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    return ptrace(PTRACE_SEIZE, pid, 0, options) == 0 ? 0 : errno;
}

static void look_at_registration(struct rsm_job *job, pid_t tid, uint32_t stage)
{
    struct rsm_record *record = &job->log->record[stage];
    struct rseq_configuration configuration = {0};
    errno = 0;
    if (ptrace(REQUEST_GET_RSEQ_CONFIGURATION, tid, sizeof(configuration), &configuration) < 0) {
        record->oracle_errno = errno;
        return;
    }
    record->oracle_address = configuration.address;
    record->oracle_size = configuration.size;
    record->oracle_signature = configuration.signature;
    record->oracle_present = 1;
}

/* A single step, and not a breakpoint instruction: the latter's si_code is SI_KERNEL (arch/x86/kernel/traps.c). */
static int is_step(const struct rsm_job *job, pid_t tid)
{
    siginfo_t information = {0};
    if (!rsm_is_stepped(job, tid))
        return 0;
    if (job->step.tid != tid && !__atomic_load_n(&job->log->stopping, __ATOMIC_RELAXED))
        return 1; /* no probe has said that it is about to stop */
    return ptrace(PTRACE_GETSIGINFO, tid, 0, &information) == 0 &&
           (information.si_code == TRAP_TRACE || information.si_code == TRAP_BRKPT);
}

/* Returns whether the SIGTRAP was one of ours; then the task goes on. */
static int serve_trap(struct rsm_job *job, pid_t tid)
{
    if (is_step(job, tid)) {
        if (job->step.tid == tid)
            rsm_step_seen(job, tid);
        else
            rsm_trace_go_on(job, tid, 0);
        return 1;
    }
    struct rsm_trap trap;
    if (rsm_trap_read(tid, &trap) != 0 || trap.argument[0] >= RSM_STAGE_MAX)
        return 0;
    uint32_t stage = (uint32_t)trap.argument[0];
    switch (trap.magic) {
    case RSM_TRAP_STEP:
        rsm_step_start(job, tid, stage, trap.argument[1]);
        return 1;
    case RSM_TRAP_STEP_END:
        rsm_step_stop(job, tid);
        return 1;
    case RSM_TRAP_MAGIC:
        look_at_registration(job, tid, stage);
        break;
    case RSM_TRAP_FREE:
        job->free = tid;
        break;
    case RSM_TRAP_FREE_END:
        job->free = 0;
        break;
    default:
        return 0;
    }
    rsm_trace_go_on(job, tid, 0);
    return 1;
}

void rsm_trace_event(struct rsm_job *job, pid_t tid, int status)
{
    int event = status >> 16, signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
        ptrace(PTRACE_LISTEN, tid, 0, 0); /* a group stop: it stays stopped until SIGCONT */
        return;
    }
    if (event == 0 && signal == SIGTRAP && serve_trap(job, tid))
        return;
    rsm_trace_go_on(job, tid, event ? 0 : signal); /* an event: a new task, or an exec */
}
