/* Starts a scenario's process with its own directory, descriptors, limits and environment. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tracer/tracer.h"

#define EXEC_TRIES 1000         /* of 10 ms: how long an exec may take */
#define OUTPUT_LIMIT (1u << 20) /* bytes; a process that prints more gets SIGXFSZ */

static void limit(int resource, rlim_t value)
{
    struct rlimit limits = {value, value};
    setrlimit(resource, &limits);
}

/* The log's descriptor needs room below the limit, which a caller may have lowered. */
static void allow_descriptors(void)
{
    struct rlimit limits;
    if (getrlimit(RLIMIT_NOFILE, &limits) == 0 && limits.rlim_cur <= RSM_LOG_FD) {
        limits.rlim_cur = limits.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limits);
    }
}

static int descriptors_set(const struct rsm_job *job)
{
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return nothing >= 0 && dup2(nothing, 0) >= 0 && dup2(job->descriptor[RSM_DESCRIPTOR_OUTPUT], 1) >= 0 &&
           dup2(job->descriptor[RSM_DESCRIPTOR_ERROR], 2) >= 0 &&
           dup2(job->descriptor[RSM_DESCRIPTOR_LOG], RSM_LOG_FD) >= 0;
}

/* In the child. Returns errno if the program could not be executed. */
static int become(const struct rsm_job *job)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* what the caller ignores is not the scenario's business */
    setpgid(0, 0);
    allow_descriptors();
    limit(RLIMIT_CORE, 0);
    if (!job->request->unlimited)
        limit(RLIMIT_FSIZE, OUTPUT_LIMIT);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (chdir(job->directory) == 0 && descriptors_set(job))
        execve(job->arguments[0], job->arguments, job->environment);
    return errno;
}

/* In the child that is to be seized: waits at the gate, a pipe, until it is. If something fails, errno is written into
 * the pipe `problem`; an exec closes it. */
static void become_seized(const struct rsm_job *job, const int gate[2], int problem)
{
    char go;
    close(gate[1]); /* so that the tracer's death opens the gate, with nothing to read */
    int error = read(gate[0], &go, 1) == 1 ? become(job) : EPIPE;
    _exit(write(problem, &error, sizeof(error)) == sizeof(error) ? 127 : 126);
}

/* Serves a stop of the seized child before its exec, which is for a signal. Waits for stops only: its end is waited for
 * in main.c. */
static void serve_early_stop(struct rsm_job *job)
{
    siginfo_t stop = {0};
    if (waitid(P_PID, (id_t)job->reply.pid, &stop, WSTOPPED | WNOHANG | __WALL) == 0 && stop.si_pid)
        rsm_serve_stop(job, stop.si_pid, stop.si_status << 8 | 0x7f);
}

/* Opens the gate to the child and waits until its exec succeeded or failed. Returns 0 or errno. */
static int open_gate(struct rsm_job *job, int gate, int problem)
{
    struct pollfd wait = {.fd = problem, .events = POLLIN};
    int error = 0;
    if (write(gate, "", 1) != 1)
        return errno;
    for (int tries = 0; tries < EXEC_TRIES && poll(&wait, 1, 10) == 0; tries++)
        serve_early_stop(job);
    if (!wait.revents)
        return ETIMEDOUT;
    return read(problem, &error, sizeof(error)) == sizeof(error) ? error : 0;
}

static int spawn_seized(struct rsm_job *job)
{
    int gate[2], problem[2], error = 0;
    if (pipe2(gate, O_CLOEXEC) != 0)
        return errno;
    if (pipe2(problem, O_CLOEXEC) != 0) {
        error = errno;
        close(gate[0]);
        close(gate[1]);
        return error;
    }
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        become_seized(job, gate, problem[1]);
    }
    close(gate[0]);
    close(problem[1]);
    if (child < 0) {
        error = errno;
    } else {
        job->reply.pid = child;
        job->reply.trace_error = rsm_trace_seize(child);
        job->log->traced = job->reply.trace_error == 0;
        job->log->stepped = job->log->traced && job->request->traced == RSM_TRACED_STEPPED;
        error = open_gate(job, gate[1], problem[0]);
    }
    close(gate[1]);
    close(problem[0]);
    return error;
}

/* With vfork(): nothing is copied, and the parent is suspended until the child has executed the program or failed to.
 */
static int spawn_untraced(struct rsm_job *job)
{
    volatile int error = 0; /* written by the child, in the parent's memory */
    job->log->traced = 0;
    pid_t child = vfork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        error = become(job);
        _exit(127);
    }
    if (child < 0)
        return errno;
    job->reply.pid = child;
    return error;
}

int rsm_spawn(struct rsm_job *job)
{
    int error = job->request->traced ? spawn_seized(job) : spawn_untraced(job);
    if (!error)
        return 0;
    job->reply.outcome = RSM_OUTCOME_NOT_STARTED;
    job->reply.error = error;
    return -1;
}
