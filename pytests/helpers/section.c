/* section: what the critical section promises. Prints "moved-adds aborts lost": what an add on another CPU's counter
 * did (must be 0), how many sections a storm of signals aborted, and by how much the counter differs from the adds that
 * said they were done (must be 0). */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

#include "kernel_query.h"
#include "record.h"
#include "registration.h"

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
    struct timeval end;
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
    while (storm_is_on(&end)) {
        for (int i = 0; i < 10000; i++) {
            uint32_t cpu = *(volatile uint32_t *)&registration.area->cpu_id_start;
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
