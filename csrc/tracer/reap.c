/* Kills every descendant. The tracer is a subreaper: a process whose parent died becomes its child, so killing children
 * until there are none ends them all, also in other sessions and process groups. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tracer/tracer.h"

#define REAP_TRIES 100000 /* each reaps one or sleeps 1 ms */

/* Parent and state of a process, from /proc/PID/stat; 0 if it is gone. The name may hold spaces and parentheses. */
static int parent_of(const char *pid, char *state)
{
    char path[64], line[512];
    int parent = 0;
    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    char *end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
    if (end && sscanf(end + 1, " %c %d", state, &parent) != 2)
        parent = 0;
    fclose(file);
    return parent;
}

static uint32_t kill_children(pid_t group)
{
    uint32_t alive = 0;
    struct dirent *entry;
    DIR *directory = opendir("/proc");
    if (!directory) /* no /proc: the group is all that can be named */
        return group > 0 && kill(-group, SIGKILL) == 0;
    while ((entry = readdir(directory))) {
        char state = 0;
        if (!isdigit((unsigned char)entry->d_name[0]) || parent_of(entry->d_name, &state) != getpid())
            continue;
        /* A zombie is killed too: it may be a main thread that ended before its process. */
        if (kill(atoi(entry->d_name), SIGKILL) == 0 && state != 'Z' && state != 'X')
            alive++;
    }
    closedir(directory);
    return alive;
}

/* Without looking into /proc, which may be masked or another namespace's. The started process has not been waited for
 * or is gone. */
static void kill_started(pid_t group)
{
    siginfo_t unused;
    if (group <= 0)
        return;
    kill(-group, SIGKILL);
    if (waitid(P_PID, (id_t)group, &unused, WEXITED | WNOWAIT | WNOHANG | __WALL) == 0)
        kill(group, SIGKILL); /* still our child */
}

uint32_t rsm_reap_all(pid_t group)
{
    static const struct timespec moment = {0, 1000000};
    uint32_t alive = 0;
    int first = 1;
    for (int tries = 0; tries < REAP_TRIES; tries++) {
        pid_t pid = waitpid(-1, NULL, __WALL | WNOHANG);
        if (pid < 0 && errno == ECHILD)
            return alive;
        if (pid != 0)
            continue;
        uint32_t killed = kill_children(group);
        if (killed && first)
            alive = killed;
        first = first && !killed;
        kill_started(group);
        nanosleep(&moment, NULL);
    }
    return alive; /* something cannot be killed: report what is known rather than wait without end */
}
