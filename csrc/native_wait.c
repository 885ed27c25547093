/* Waits for stops of traced tasks, and single-steps one from stop to stop, for Python: a step is waited for thousands
 * of times, so it is done here. Part of the extension module. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <time.h>

#include "native.h"
#include "arch/x86_64_ptrace.h"
#include "tracer/stop.h"

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void describe_stop(const siginfo_t *found, struct rsm_stop *stop)
{
    siginfo_t cause = {0};
    struct rsm_trap trap;
    *stop = (struct rsm_stop){.tid = (uint32_t)found->si_pid, .signal = (uint32_t)found->si_status & 0x7f};
    if (found->si_code == CLD_EXITED || found->si_code == CLD_KILLED || found->si_code == CLD_DUMPED) {
        stop->ended = 1;
        stop->signal = found->si_code == CLD_EXITED ? 0 : stop->signal;
        return;
    }
    stop->event = (uint32_t)found->si_status >> 8;
    rsm_trap_read(found->si_pid, &trap);
    stop->program_counter = trap.program_counter;
    if (stop->event || stop->signal != SIGTRAP || ptrace(PTRACE_GETSIGINFO, found->si_pid, 0, &cause) != 0)
        return;
    stop->stepped = (uint32_t)rsm_is_single_step(&cause);
    stop->at_gate = cause.si_code == SI_KERNEL && trap.magic == RSM_GATE_MAGIC; /* behind a breakpoint instruction */
    stop->role = trap.argument[0];
}

/* Gives the processor up for a moment: the task that is waited for may need this one. If yielding took long, other
 * programs want it, too, and a thread that yields to them is scheduled last each time; one that sleeps is not. */
static void give_way(uint64_t passed)
{
    enum { BRISK = 300000, SLOW = 100000, NAPS = 50 };
    static unsigned int naps; /* that are still to come instead of yielding */
    const struct timespec brief = {0, 1000}, nap = {0, 50000};
    if (passed >= BRISK) {
        nanosleep(&nap, NULL);
    } else if (naps) {
        naps--;
        nanosleep(&brief, NULL);
    } else {
        uint64_t before = now();
        sched_yield();
        naps = now() - before > SLOW ? NAPS : 0;
    }
}

/* Polls: most stops come within microseconds. */
static int await(idtype_t kind, int id, uint64_t nanoseconds, struct rsm_stop *stop)
{
    uint64_t start = now(), passed = 0;
    stop->tid = 0;
    for (;;) { /* the last poll is behind the last pause, which may have been long */
        siginfo_t found = {0};
        if (waitid(kind, (id_t)id, &found, WSTOPPED | WEXITED | WNOHANG | __WALL) != 0)
            return errno;
        if (found.si_pid) {
            describe_stop(&found, stop);
            return 0;
        }
        if (passed >= nanoseconds)
            return 0;
        give_way(passed);
        passed = now() - start;
    }
}

int rsm_trace_await(int group, unsigned int microseconds, struct rsm_stop *stop)
{
    return await(P_PGID, group, (uint64_t)microseconds * 1000, stop);
}

static int is_among(uint64_t address, const uint64_t *stops, unsigned int count)
{
    for (unsigned int i = 0; i < count; i++)
        if (stops[i] == address)
            return 1;
    return 0;
}

int rsm_trace_walk(int tid, uint64_t armed, const uint64_t *stops, unsigned int stop_count, uint64_t *addresses,
                   unsigned int limit, unsigned int *count, unsigned int *end, struct rsm_stop *stop)
{
    const uint64_t patience = 1000000000;
    uint64_t before = 0, now_armed = 0;
    if (armed)
        rsm_trace_read(tid, armed, &before, sizeof(before));
    for (*count = 0; *count < limit;) {
        int error = rsm_trace_step(tid);
        if (!error)
            error = await(P_PID, tid, patience, stop);
        if (error)
            return error;
        *end = stop->tid ? RSM_WALK_STOPPED : RSM_WALK_SLEEPS;
        if (!stop->stepped || !stop->tid)
            return 0;
        addresses[(*count)++] = stop->program_counter;
        if (armed && rsm_trace_read(tid, armed, &now_armed, sizeof(now_armed)) == 0 && now_armed != before) {
            before = now_armed;
            *end = RSM_WALK_ARMED;
            if (now_armed)
                return 0;
        }
        *end = RSM_WALK_AT_STOP;
        if (is_among(stop->program_counter, stops, stop_count))
            return 0;
    }
    *end = RSM_WALK_LIMIT;
    return 0;
}
