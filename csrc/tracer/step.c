/* Restarts tasks, in single steps or not, and single-steps one add of the subject to see whether a critical section was
 * left by its end, which commits it. Where the kernel has the area registered that cannot be: every stop in a section
 * aborts it. Where it has not, a commit shows that the subject trusts what protects nothing. */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>

#include "arch/x86_64_ptrace.h"
#include "tracer/tracer.h"

/* The section that holds `address` (relative to the subject's base), or the number of sections. */
static uint32_t section_at(const struct rsm_log *log, uint64_t address)
{
    uint32_t i = 0;
    while (i < log->section_count && !(address >= log->section[i].start && address < log->section[i].end))
        i++;
    return i;
}

int rsm_is_stepped(const struct rsm_job *job, pid_t tid)
{
    return job->step.tid == tid || (job->request->traced == RSM_TRACED_STEPPED && job->unstepped != tid);
}

void rsm_restart(const struct rsm_job *job, pid_t tid, int signal)
{
    ptrace(rsm_is_stepped(job, tid) ? PTRACE_SINGLESTEP : PTRACE_CONT, tid, 0, signal);
}

void rsm_step_start(struct rsm_job *job, pid_t tid, uint32_t stage, uint64_t base)
{
    job->step = (struct rsm_step_state){.tid = tid, .stage = stage, .base = base, .section = job->log->section_count};
    rsm_restart(job, tid, 0);
}

static void note_most(struct rsm_trial *trial, uint32_t count)
{
    if (count > trial->stepped_most)
        trial->stepped_most = count;
}

void rsm_step_stop(struct rsm_job *job, pid_t tid)
{
    if (job->step.tid == tid) {
        struct rsm_trial *trial = &job->log->trial[job->step.stage];
        trial->stepped++;
        note_most(trial, job->step.count);
    }
    job->step.tid = 0;
    rsm_restart(job, tid, 0);
}

void rsm_step_seen(struct rsm_job *job, pid_t tid)
{
    const struct rsm_log *log = job->log;
    struct rsm_trial *trial = &job->log->trial[job->step.stage];
    uint64_t address = rsm_program_counter(tid) - job->step.base;
    uint32_t before = job->step.section, now = section_at(log, address);
    if (before < log->section_count && now != before) {
        if (address == log->section[before].end)
            trial->stepped_commits++;
        else
            trial->stepped_aborts++;
    }
    if (now < log->section_count) {
        trial->stepped_section = now;
        trial->stepped_at = address;
    }
    for (uint32_t i = 0; i < log->watched_count; i++)
        if (log->watched[i] == address)
            trial->stepped_watched |= (uint64_t)1 << i;
    job->step.section = now;
    if (++job->step.count < RSM_STEPS_MAX) {
        rsm_restart(job, tid, 0);
        return;
    }
    trial->stepped_limited++;
    note_most(trial, job->step.count);
    job->step.tid = 0;
    rsm_restart(job, tid, 0); /* not in steps: if the add never ends, the time limit ends it */
}
