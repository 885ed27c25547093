/* Executes a program in an environment, with what the commands before it could not give it: an open log, a filter, its
 * own output and variables.
 *
 *   enter [log=PATH] [filter=NAME] [output=save|restore] -- [NAME=VALUE]... -- PROGRAM [ARGUMENT]...
 *
 * log: the log is opened at its descriptor, where none is inherited (in a sandbox). filter: a seccomp filter for
 * rseq(2). output: a tool that prints runs in between; the program's own standard output and error are kept for it at
 * descriptors that the tool does not use. The variables are the program's alone, not the tool's: LD_PRELOAD. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "environment/become.h"
#include "rseq/seccomp.h"

#define KEPT_OUTPUT 198
#define KEPT_ERROR 197

static int move(int from, int to)
{
    return dup2(from, to) == to && (from == to || close(from) == 0) ? 0 : -1;
}

static int open_log(const char *path)
{
    int descriptor = open(path, O_RDWR);
    return descriptor < 0 ? -1 : move(descriptor, RSM_LOG_FD);
}

static int save_output(void)
{
    int nothing = open("/dev/null", O_WRONLY);
    if (nothing < 0 || dup2(1, KEPT_OUTPUT) < 0 || dup2(2, KEPT_ERROR) < 0 || dup2(nothing, 2) < 0)
        return -1;
    return move(nothing, 1);
}

static int restore_output(void)
{
    return move(KEPT_OUTPUT, 1) == 0 ? move(KEPT_ERROR, 2) : -1;
}

/* Returns 0, or -1 with errno set. */
static int install_filter(const char *name)
{
    static const struct {
        const char *name;
        int answer;
    } filters[] = {{"enosys", ENOSYS}, {"eperm", EPERM}, {"fake", 0}, {"kill", RSM_FILTER_KILLS}};
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
        if (strcmp(name, filters[i].name) == 0)
            return rsm_filter_rseq(filters[i].answer);
    errno = EINVAL;
    return -1;
}

/* Returns 0, or -1 with errno set. */
static int take_step(const char *step)
{
    if (strncmp(step, "log=", 4) == 0)
        return open_log(step + 4);
    if (strncmp(step, "filter=", 7) == 0)
        return install_filter(step + 7);
    if (strcmp(step, "output=save") == 0)
        return save_output();
    if (strcmp(step, "output=restore") == 0)
        return restore_output();
    errno = EINVAL;
    return -1;
}

int main(int argc, char **argv)
{
    int at = 1;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++)
        if (take_step(argv[at]) != 0)
            return rsm_become_failed(argv[at]);
    return rsm_become(argc, argv, at + 1);
}
