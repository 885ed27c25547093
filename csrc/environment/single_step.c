/* Single-steps every instruction of a program and of all that it starts. Exits with the program's exit status, or is
 * killed by the signal that killed the program.
 *
 *   single_step PROGRAM [ARGUMENT]...
 *
 * A program of its own, and not a part of csrc/tracer: the environment has to work for any program, without a log and
 * without a driver. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tracer/stop.h"

#define FAILED 125

static int fail(const char *what)
{
    fprintf(stderr, "single_step: %s: %s\n", what, strerror(errno));
    return FAILED;
}

/* A step takes three times as long where tracer and task run on two CPUs and wake each other. */
static void share_one_cpu(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof(one), &one);
}

/* A SIGSTOP is what the program stopped itself with before it was seized. */
static int pending_signal(pid_t tid, int status)
{
    return WSTOPSIG(status) == SIGSTOP ? 0 : rsm_pending_signal(tid, status);
}

/* Returns the wait status of the program. */
static int step_all(pid_t program)
{
    int status = 0;
    for (;;) {
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0)
            return status;
        if (WIFSTOPPED(status))
            ptrace(PTRACE_SINGLESTEP, tid, 0, pending_signal(tid, status));
        else if (tid == program)
            return status;
    }
}

int main(int argc, char **argv)
{
    int status;
    if (argc < 2) {
        errno = EINVAL;
        return fail("no program");
    }
    share_one_cpu();
    pid_t program = fork();
    if (program == 0) {
        raise(SIGSTOP);
        execv(argv[1], argv + 1);
        _exit(fail(argv[1]));
    }
    if (program < 0 || waitpid(program, &status, WUNTRACED) < 0 ||
        ptrace(PTRACE_SEIZE, program, 0, RSM_PTRACE_FOLLOW) != 0) {
        int failed = fail("a program that is single-stepped");
        if (program > 0)
            kill(program, SIGKILL);
        return failed;
    }
    signal(SIGINT, SIG_IGN); /* a terminal sends them to the program, too, which may handle them */
    signal(SIGQUIT, SIG_IGN);
    kill(program, SIGCONT);
    status = step_all(program);
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
}
