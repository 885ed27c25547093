/* Two CPUs that this process may run on, for stages that show a CPU number going stale. */
#ifndef RSM_CPU_PAIR_H
#define RSM_CPU_PAIR_H

#include <sched.h>
#include <stddef.h>

#include "arch.h"

struct rsm_cpu_pair {
    cpu_set_t allowed; /* to go back to */
    int here;
    int there; /* the same as here where only one CPU is allowed */
    int binds; /* 0: a thread that is bound to a CPU runs on any, in a sandbox that has CPUs of its own */
};

static inline void rsm_pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* Asks the kernel, not libc: sched_getcpu() may read the very area that is in question. */
static inline int rsm_is_on(int cpu)
{
    unsigned now = 0;
    return rsm_syscall(RSM_SYS_GETCPU, (long)&now, 0, 0, 0, 0, 0) == 0 && (int)now == cpu;
}

/* Pins this thread to `here`. */
static inline struct rsm_cpu_pair rsm_cpu_pair_pin(void)
{
    struct rsm_cpu_pair pair = {.here = -1, .there = -1};
    CPU_ZERO(&pair.allowed);
    sched_getaffinity(0, sizeof(pair.allowed), &pair.allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE && pair.there < 0; cpu++) {
        if (!CPU_ISSET(cpu, &pair.allowed))
            continue;
        if (pair.here < 0)
            pair.here = cpu;
        else
            pair.there = cpu;
    }
    if (pair.there < 0)
        pair.there = pair.here;
    rsm_pin(pair.there);
    pair.binds = rsm_is_on(pair.there);
    rsm_pin(pair.here);
    pair.binds = pair.binds && rsm_is_on(pair.here);
    return pair;
}

/* Moves this thread to the other CPU. Returns whether it is there, as far as that is possible. */
static inline int rsm_move_there(const struct rsm_cpu_pair *pair)
{
    rsm_pin(pair->there);
    return rsm_is_on(pair->there) || !pair->binds;
}

static inline void rsm_cpu_pair_unpin(const struct rsm_cpu_pair *pair)
{
    sched_setaffinity(0, sizeof(pair->allowed), &pair->allowed);
}

#endif
