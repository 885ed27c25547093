/* Serves one stop of a traced task: a new task or an exec is followed, a request of the probe (probe_traps.h) is done,
 * a pending signal is delivered, a group-stop is left as it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>

#include "arch/x86_64_ptrace.h"
#include "tracer/stop.h"
#include "tracer/tracer.h"

struct rseq_configuration { /* struct ptrace_rseq_configuration of linux/ptrace.h */
    uint64_t address;
    uint32_t size;
    uint32_t signature;
    uint32_t flags;
    uint32_t padding;
};

int rsm_trace_seize(pid_t pid)
{
    return rsm_error_of(ptrace(PTRACE_SEIZE, pid, 0, RSM_PTRACE_FOLLOW));
}

static void look_at_registration(struct rsm_job *job, pid_t tid, uint32_t stage)
{
    struct rsm_record *record = &job->log->record[stage];
    struct rseq_configuration configuration = {0};
    errno = 0;
    if (ptrace(RSM_PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(configuration), &configuration) < 0) {
        record->oracle_errno = errno;
        return;
    }
    record->oracle_address = configuration.address;
    record->oracle_size = configuration.size;
    record->oracle_signature = configuration.signature;
    record->oracle_present = 1;
}

/* Whether a SIGTRAP is that of a single step, and not of the probe's breakpoint. */
static int is_step(const struct rsm_job *job, pid_t tid)
{
    siginfo_t cause = {0};
    if (!rsm_is_stepped(job, tid))
        return 0;
    if (job->step.tid != tid && !__atomic_load_n(&job->log->stopping, __ATOMIC_RELAXED))
        return 1; /* no probe has said that it is about to stop */
    return ptrace(PTRACE_GETSIGINFO, tid, 0, &cause) == 0 && rsm_is_single_step(&cause);
}

/* Returns whether the SIGTRAP was one of ours; then the task has been restarted without it. */
static int serve_trap(struct rsm_job *job, pid_t tid)
{
    if (is_step(job, tid)) {
        if (job->step.tid == tid)
            rsm_step_seen(job, tid);
        else
            rsm_restart(job, tid, 0);
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
        job->unstepped = tid;
        break;
    case RSM_TRAP_FREE_END:
        job->unstepped = 0;
        break;
    default:
        return 0;
    }
    rsm_restart(job, tid, 0);
    return 1;
}

void rsm_serve_stop(struct rsm_job *job, pid_t tid, int status)
{
    if (rsm_is_group_stop(status)) {
        ptrace(PTRACE_LISTEN, tid, 0, 0); /* it stays stopped until SIGCONT */
        return;
    }
    int event = rsm_stop_event(status), signal = WSTOPSIG(status);
    if (!event && signal == SIGTRAP && serve_trap(job, tid))
        return;
    rsm_restart(job, tid, event ? 0 : signal);
}
