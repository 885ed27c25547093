/* Executes the program of an environment, with its own variables. */
#ifndef RSM_ENVIRONMENT_BECOME_H
#define RSM_ENVIRONMENT_BECOME_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "record.h"

#define RSM_BECOME_FAILED 125 /* exit status, as of env(1): the program was not executed */

static inline int rsm_become_failed(const char *what)
{
    fprintf(stderr, "enter: %s: %s\n", what, strerror(errno));
    return RSM_BECOME_FAILED;
}

/* Writes this process's id, which the program keeps, into the log: the driver knows only that of the tool around it. */
static inline void rsm_log_own_pid(void)
{
    struct rsm_log *log = rsm_log_map();
    if (!log)
        return;
    log->program_pid = getpid();
    rsm_log_unmap(log);
}

/* [NAME=VALUE]... -- PROGRAM [ARGUMENT]..., from argv[at] on. Returns only if that fails: the exit status. */
static inline int rsm_become(int argc, char **argv, int at)
{
    for (; at < argc && strcmp(argv[at], "--") != 0; at++)
        putenv(argv[at]);
    if (++at >= argc) {
        errno = EINVAL;
        return rsm_become_failed("no program");
    }
    rsm_log_own_pid();
    execv(argv[at], argv + at);
    return rsm_become_failed(argv[at]);
}

#endif
