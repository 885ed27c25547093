/* Time that passes, in seconds. */
#ifndef RSM_VERIFY_SECONDS_H
#define RSM_VERIFY_SECONDS_H

#include <time.h>

static inline double seconds_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

#endif
