/* A timer that interrupts the thread that starts it with SIGUSR1, periodically: on time also where more threads
 * run than there are CPUs, and a thread that sends signals would have to wait for one. */
#ifndef RSM_VERIFY_OWN_TIMER_H
#define RSM_VERIFY_OWN_TIMER_H

#include <signal.h>
#include <time.h>

#include "arch.h"

#ifndef sigev_notify_thread_id /* timer_create(2); not yet in glibc 2.36 */
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* Returns 0 if there can be none. */
static inline int own_timer_start(timer_t *timer, long nanoseconds)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    const struct itimerspec period = {{0, nanoseconds}, {0, nanoseconds}};
    event.sigev_notify_thread_id = (int)rsm_syscall(RSM_SYS_GETTID, 0, 0, 0, 0, 0, 0);
    return timer_create(CLOCK_MONOTONIC, &event, timer) == 0 && timer_settime(*timer, 0, &period, NULL) == 0;
}

#endif
