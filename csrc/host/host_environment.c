/* Does what of an environment the program has to do itself: an rseq area of its own, as a program that uses librseq
 * has, and a seccomp filter that it installs when libc has long registered. Fires no stage itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "host.h"
#include "rseq/own_area.h"
#include "rseq/seccomp.h"

/* The set of enum rsm_host_environment that this process is to do. */
static uint32_t wanted(void)
{
    struct rsm_log *log = rsm_log_map();
    if (!log)
        return 0;
    uint32_t parts = log->host_environment;
    rsm_log_unmap(log);
    return parts;
}

void rsm_environment_enter(void)
{
    rsm_thread_begins();
    if (wanted() & RSM_HOST_LATE_FILTER && rsm_filter_rseq(EPERM) != 0)
        _exit(1);
}

void rsm_main_begins(void)
{
    rsm_reach(RSM_REACHED_MAIN);
    rsm_environment_enter();
}

void rsm_thread_begins(void)
{
    if (wanted() & RSM_HOST_OWN_AREA && rsm_own_area_register() != 0)
        _exit(1);
}
