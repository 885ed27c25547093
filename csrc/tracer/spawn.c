/* Starts a scenario's process with its own directory, descriptors, limits and environment. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tracer/tracer.h"

#define OUTPUT_LIMIT (1u << 20) /* bytes; a process that prints more gets SIGXFSZ */

static void limit(int resource, rlim_t value)
{
    struct rlimit limits = {value, value};
    setrlimit(resource, &limits);
}

static int descriptors_set(const struct rsm_job *job)
{
    int nothing = open("/dev/null", O_RDONLY);
    return nothing >= 0 && dup2(nothing, 0) >= 0 && dup2(job->descriptor[RSM_DESCRIPTOR_OUTPUT], 1) >= 0 &&
           dup2(job->descriptor[RSM_DESCRIPTOR_ERROR], 2) >= 0 &&
           dup2(job->descriptor[RSM_DESCRIPTOR_LOG], RSM_LOG_FD) >= 0;
}

/* In the child. Does not return; what went wrong goes to `problem`, which an exec closes. */
static void become(const struct rsm_job *job, int gate, int problem)
{
    char go;
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, OUTPUT_LIMIT);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (read(gate, &go, 1) == 1 && chdir(job->directory) == 0 && descriptors_set(job))
        execve(job->arguments[0], job->arguments, job->environment);
    int error = errno;
    if (write(problem, &error, sizeof(error)) != sizeof(error))
        _exit(126);
    _exit(127);
}

/* Lets the child through the gate and hears whether its exec failed. Returns 0 or errno. */
static int let_go(int gate, int problem)
{
    int error = 0;
    if (write(gate, "", 1) != 1)
        return errno;
    return read(problem, &error, sizeof(error)) == sizeof(error) ? error : 0;
}

static int give_up(struct rsm_job *job, int error)
{
    job->reply.outcome = RSM_OUTCOME_NOT_STARTED;
    job->reply.error = error;
    return -1;
}

/* The child stopped in an event of the seize may not be able to report; so the events are served only after the exec,
 * which a seized task does not stop at before it has succeeded. */
int rsm_spawn(struct rsm_job *job)
{
    int gate[2], problem[2], error = 0;
    if (pipe2(gate, O_CLOEXEC) != 0)
        return give_up(job, errno);
    if (pipe2(problem, O_CLOEXEC) != 0) {
        error = errno;
        close(gate[0]);
        close(gate[1]);
        return give_up(job, error);
    }
    pid_t child = fork();
    if (child == 0)
        become(job, gate[0], problem[1]);
    close(gate[0]);
    close(problem[1]);
    if (child < 0) {
        error = errno;
    } else {
        job->reply.pid = child;
        job->reply.trace_error = job->request->traced ? rsm_trace_seize(child) : 0;
        job->log->traced = job->request->traced && job->reply.trace_error == 0;
        error = let_go(gate[1], problem[0]);
    }
    close(gate[1]);
    close(problem[0]);
    return error ? give_up(job, error) : 0;
}
