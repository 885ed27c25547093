/* process.fork_child and process.atfork_child. Fired in the child of fork(): after it returned, and inside it, by the
 * handler. The child is a copy and keeps the registration. libc's async-signal-safe functions may be used, and here,
 * with one thread, all of them. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe_libc.h"
#include "steps.h"

void rsm_process_fork_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        RSM_PROBE_LIBC(process, fork_child);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void atfork_handler(void)
{
    RSM_PROBE_LIBC(process, atfork_child);
}

void rsm_process_atfork_child(void)
{
    if (pthread_atfork(NULL, NULL, atfork_handler) != 0)
        return;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
}
