/* The CPUs that this process may use, and moving threads between them. */
#define _GNU_SOURCE
#include <sched.h>

#include "arch.h"
#include "rseq/allowed_cpus.h"

static cpu_set_t allowed;
static int number[CPU_SETSIZE];
static unsigned count;

unsigned cpus_find(void)
{
    CPU_ZERO(&allowed);
    sched_getaffinity(0, sizeof(allowed), &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            number[count++] = cpu;
    return count;
}

int cpu_number(unsigned which)
{
    return number[which % count];
}

int cpu_other(unsigned than, unsigned which)
{
    return number[which % count] == (int)than ? number[(which + 1) % count] : number[which % count];
}

void cpu_pin(int tid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(tid, sizeof(set), &set);
}

void cpu_unpin(int tid)
{
    sched_setaffinity(tid, sizeof(allowed), &allowed);
}

/* Asks the kernel, not libc: sched_getcpu() may read the very area that is in question. */
unsigned cpu_now(void)
{
    unsigned cpu = 0;
    rsm_syscall(RSM_SYS_GETCPU, (long)&cpu, 0, 0, 0, 0, 0);
    return cpu;
}
