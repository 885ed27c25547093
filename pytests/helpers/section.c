/* section: what the critical section promises. Prints "moved-adds aborts lost": what an add on another CPU's counter
 * did (must be 0), how many sections a storm of signals aborted, and by how much the counter differs from the adds that
 * said they were done (must be 0).
 *
 * An interrupt is mostly taken behind the instruction that the CPU waits for. In this section that would be the last
 * one, the commit, and one signal in many thousands would abort it. So the area is flushed from the caches before each
 * add: then the CPU waits for the section's first instruction, which reads it. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

#include "kernel_query.h"
#include "record.h"
#include "registration.h"

#define PATIENCE_SECONDS 60 /* for the first abort, on a machine that others keep busy */

static void handler(int signal)
{
    (void)signal;
}

static int storm_is_on(const struct timeval *end)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return timercmp(&now, end, <);
}

int main(void)
{
    static uint64_t counters[RSM_CPU_MAX];
    struct itimerval often = {{0, 50}, {0, 50}};
    struct rsm_registration registration;
    struct timeval end, last;
    uint64_t done = 0, aborts = 0, sum = 0;
    rsm_registration_find(&registration);
    if (!rsm_user_registered(&registration))
        return 77;
    rsm_section_add(registration.area, registration.area->cpu_id + 1, &counters[0], 1);
    uint64_t moved_adds = counters[0];
    signal(SIGALRM, handler);
    setitimer(ITIMER_REAL, &often, NULL);
    gettimeofday(&end, NULL);
    end.tv_sec += 1;
    last = end;
    last.tv_sec += PATIENCE_SECONDS;
    while (storm_is_on(&end) || (!aborts && storm_is_on(&last))) {
        for (int i = 0; i < 10000; i++) {
            uint32_t cpu = *(volatile uint32_t *)&registration.area->cpu_id_start;
            __builtin_ia32_clflush(registration.area);
            enum rsm_commit commit = rsm_section_add(registration.area, cpu, &counters[cpu], 1);
            done += commit == RSM_COMMIT_DONE;
            aborts += commit == RSM_COMMIT_ABORTED;
        }
    }
    for (int cpu = 0; cpu < RSM_CPU_MAX; cpu++)
        sum += counters[cpu];
    printf("%lu %lu %ld\n", moved_adds, aborts, (long)(sum - moved_adds - done));
    return 0;
}
